// colonnade/comm/detail/message_backend.h
#pragma once

#include "colonnade/comm/detail/heartbeat.h"
#include "colonnade/comm/detail/mesh.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"
#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/api.h"

#include <memory>

namespace colonnade::detail {

/// The world of a process that is one rank, over a mesh.
///
/// heartbeat  of other hosts; null: they are not asked
COLONNADE_API WorldPtr make_message_world(
    const ProcessPlace& place, std::shared_ptr<ProcessFates> fates,
    std::unique_ptr<Mesh> mesh, std::shared_ptr<const Peers> peers,
    std::unique_ptr<Heartbeat> heartbeat = nullptr);

}  // namespace colonnade::detail
