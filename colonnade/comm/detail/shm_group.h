// colonnade/comm/detail/shm_group.h
#pragma once

#include "colonnade/comm/detail/shm_watch.h"
#include "colonnade/comm/group.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::detail {

/// The group of `ranks`, of which each is a process and makes it.
GroupPtr make_shm_group(std::shared_ptr<ShmWatch> watch, std::string name,
                        std::vector<int64_t> ranks);

}  // namespace colonnade::detail
