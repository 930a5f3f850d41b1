// colonnade/comm/detail/self_backend.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/comm/world.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace colonnade::detail {

/// The group of one rank, which is `rank` of its world: collectives copy or do
/// nothing. The groups of one of every backend are such.
GroupPtr make_self_group(std::string name, int64_t rank,
                         std::chrono::milliseconds timeout);

/// The world of one rank. InvalidArgument where `size` is not 1.
std::vector<WorldPtr> make_self_world(int size,
                                      std::chrono::milliseconds timeout);

}  // namespace colonnade::detail
