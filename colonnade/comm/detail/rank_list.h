// colonnade/comm/detail/rank_list.h
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace colonnade::detail {

/// "rank 1", or "ranks 0, 2 and 3".
std::string rank_list(const std::vector<int64_t>& ranks);

}  // namespace colonnade::detail
