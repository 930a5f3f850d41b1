// colonnade/comm/backend.cpp
#include "colonnade/comm/backend.h"

#include "colonnade/comm/detail/gloo_backend.h"
#include "colonnade/comm/detail/mpi_backend.h"
#include "colonnade/comm/detail/nccl_backend.h"
#include "colonnade/comm/detail/self_backend.h"
#include "colonnade/comm/detail/shm_backend.h"
#include "colonnade/comm/detail/threads_backend.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <array>

namespace colonnade {
namespace {

std::string runs_here() {
  return {};
}

constexpr std::array kBackends = {
    Backend{"self", "one rank, nothing to exchange", true, runs_here,
            detail::make_self_world, nullptr},
    Backend{"threads", "ranks are threads of this process", true, runs_here,
            detail::make_thread_worlds, nullptr},
    Backend{"shm", "processes of one host, over shared memory", true,
            detail::why_no_shm, nullptr, detail::make_shm_world},
    Backend{"gloo", "processes, over TCP", true, runs_here, nullptr,
            detail::make_gloo_world},
    Backend{"nccl", "CUDA devices, each of one rank", true, detail::why_no_nccl,
            detail::make_nccl_thread_worlds, detail::make_nccl_world},
    Backend{"mpi", "processes started by mpirun", COLONNADE_HAS_MPI,
            detail::why_no_mpi, nullptr,
            COLONNADE_HAS_MPI ? detail::make_mpi_world : nullptr},
};

}  // namespace

std::span<const Backend> backends() {
  return kBackends;
}

const Backend& find_backend(std::string_view name) {
  const auto row =
      std::find_if(kBackends.begin(), kBackends.end(),
                   [&](const Backend& b) { return b.name == name; });
  if (row == kBackends.end()) {
    std::string names;
    for (const Backend& backend : kBackends) {
      names += concat(names.empty() ? "" : ", ", backend.name);
    }
    throw InvalidArgument(concat("backend: there is none called \"", name,
                                 "\"; name one of ", names));
  }
  return *row;
}

}  // namespace colonnade
