// colonnade/comm/exchange.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {

/// Every rank's bytes, in rank order. Lengths may differ.
COLONNADE_API std::vector<std::string> all_gather_bytes(Group& group,
                                                        std::string_view bytes);

/// The bytes of rank `root`, on every rank.
COLONNADE_API std::string broadcast_bytes(Group& group, std::string_view bytes,
                                          int root);

}  // namespace colonnade
