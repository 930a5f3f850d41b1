// colonnade/comm/detail/gloo_backend.cpp
#include "colonnade/comm/detail/gloo_backend.h"

#include "colonnade/comm/detail/gloo_mesh.h"
#include "colonnade/comm/detail/heartbeat.h"
#include "colonnade/comm/detail/message_backend.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"

#include <memory>
#include <utility>

namespace colonnade::detail {

WorldPtr make_gloo_world(const ProcessPlace& place) {
  return make_gloo_world(place, std::make_shared<const Peers>(place));
}

WorldPtr make_gloo_world(const ProcessPlace& place,
                         const std::shared_ptr<const Peers>& peers) {
  auto mesh = std::make_unique<GlooMesh>(place, peers->share_host());
  auto heartbeat = peers->share_host() ? nullptr
                                       : std::make_unique<Heartbeat>(
                                             place, *peers, mesh->address());
  return make_message_world(
      place, std::make_shared<ProcessFates>(place.rendezvous, place.rank),
      std::move(mesh), peers, std::move(heartbeat));
}

}  // namespace colonnade::detail
