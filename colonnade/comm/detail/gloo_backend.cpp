// colonnade/comm/detail/gloo_backend.cpp
#include "colonnade/comm/detail/gloo_backend.h"

#include "colonnade/comm/detail/gloo_mesh.h"
#include "colonnade/comm/detail/message_backend.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"

#include <memory>

namespace colonnade::detail {

WorldPtr make_gloo_world(const ProcessPlace& place) {
  return make_gloo_world(place, std::make_shared<const Peers>(place));
}

WorldPtr make_gloo_world(const ProcessPlace& place,
                         const std::shared_ptr<const Peers>& peers) {
  return make_message_world(
      place, std::make_shared<ProcessFates>(place.rendezvous, place.rank),
      std::make_unique<GlooMesh>(place, peers->share_host()), peers);
}

}  // namespace colonnade::detail
