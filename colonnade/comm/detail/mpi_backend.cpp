// colonnade/comm/detail/mpi_backend.cpp
#include "colonnade/comm/detail/mpi_backend.h"

#include "colonnade/comm/detail/message_backend.h"
#include "colonnade/comm/detail/mpi_mesh.h"
#include "colonnade/comm/detail/mpi_port.h"
#include "colonnade/comm/detail/patience.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"
#include "colonnade/core/error.h"

#include <dlfcn.h>

#include <memory>
#include <utility>

namespace colonnade::detail {
namespace {

constexpr char kModule[] = "libcolonnade_mpi.so";

struct Module {
  OpenMpiPort open = nullptr;
  std::string why_not = {};
};

/// The folder of this library.
std::string own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&why_no_mpi), &info) == 0) {
    return {};
  }
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

Module load() {
  if constexpr (COLONNADE_HAS_MPI == 0) {
    return {.why_not =
                "this build has none, since CMake found no MPI; install "
                "one (Debian: libopenmpi-dev) and build again"};
  }
  // Not closed again: libmpi does not bear it.
  void* const module =
      dlopen((own_folder() + kModule).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    return {.why_not = concat(kModule, " cannot be loaded: ", dlerror(),
                              "; it must be beside libcolonnade.so, and find "
                              "the libmpi that it was built with")};
  }
  const void* const open = dlsym(module, "colonnade_open_mpi");
  if (open == nullptr) {
    return {.why_not = concat(kModule, " is of another build: ", dlerror())};
  }
  return {.open = *static_cast<const OpenMpiPort*>(open)};
}

const Module& module() {
  static const Module loaded = load();
  return loaded;
}

}  // namespace

std::string why_no_mpi() {
  return module().why_not;
}

WorldPtr make_mpi_world(const ProcessPlace& place) {
  check_arg(why_no_mpi().empty(), "mpi: cannot be used: ", why_no_mpi());
  std::string error;
  std::unique_ptr<MpiPort> port = module().open(place.rank, place.size, error);
  check<CommError>(port != nullptr, "mpi: ", error);
  const auto fates =
      std::make_shared<ProcessFates>(place.rendezvous, place.rank);
  return make_message_world(
      place, fates,
      std::make_unique<MpiMesh>(std::move(port), fates,
                                patience_for(place.waiters())),
      std::make_shared<const Peers>(place));
}

}  // namespace colonnade::detail
