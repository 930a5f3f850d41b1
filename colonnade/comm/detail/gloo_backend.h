// colonnade/comm/detail/gloo_backend.h
#pragma once

#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"

#include <memory>

namespace colonnade::detail {

/// The world of a process that is one rank, over TCP. Collective over all
/// processes of the world.
WorldPtr make_gloo_world(const ProcessPlace& place);
WorldPtr make_gloo_world(const ProcessPlace& place,
                         const std::shared_ptr<const Peers>& peers);

}  // namespace colonnade::detail
