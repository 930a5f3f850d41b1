// Worlds of processes that torch.distributed has brought together.
#include "torch_world.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/neighbors.h"
#include "colonnade/comm/process_rendezvous.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace colonnade::python {
namespace {

std::vector<std::string_view> candidates(const std::string& name) {
  return name.empty() ? std::vector<std::string_view>{"shm", "gloo"}
                      : std::vector<std::string_view>{name};
}

const Backend& choose_backend(const std::string& name,
                              const Neighbors& neighbors) {
  if (name.empty()) {
    return *neighbors.backend;
  }
  const Backend& backend = find_backend(name);
  const std::string why_not = backend.why_not();
  check_arg(why_not.empty(), "torch.distributed: the backend ", name,
            " cannot be used: ", why_not);
  check_arg(backend.make_process_world != nullptr,
            "torch.distributed: the ranks of ", name,
            " are threads; name a backend of processes in COLONNADE_BACKEND");
  check_arg(neighbors.why_not_first.empty(), "torch.distributed: the backend ",
            name, " cannot be used by ", neighbors.why_not_first);
  return backend;
}

}  // namespace

WorldPtr make_torch_world(const TorchPlace& place) {
  if (place.size == 1) {
    return find_backend("self").make_local_worlds(1, place.timeout).front();
  }
  ProcessPlace process{.rank = place.rank,
                       .size = place.size,
                       .host = host_identity(),
                       .rendezvous = store_rendezvous(place.store),
                       .timeout = std::min(place.timeout, kLongestTimeout),
                       .network = place.network};
  const Neighbors neighbors =
      meet_neighbors(process, candidates(place.backend));
  process.sharing = neighbors.sharing;
  return choose_backend(place.backend, neighbors).make_process_world(process);
}

}  // namespace colonnade::python
