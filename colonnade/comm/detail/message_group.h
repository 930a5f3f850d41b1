// colonnade/comm/detail/message_group.h
#pragma once

#include "colonnade/comm/detail/message_world.h"
#include "colonnade/comm/group.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::detail {

/// A group of more than one rank over the mesh of `world`. Each call begins
/// with a message to every member, which compares the call and brings small
/// tensors along; sums are in rank order.
///
/// rank  of this process among `ranks`, which are the world's
GroupPtr make_message_group(std::shared_ptr<MessageWorld> world,
                            std::string name, int rank,
                            std::vector<int64_t> ranks);

}  // namespace colonnade::detail
