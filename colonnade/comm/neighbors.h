// colonnade/comm/neighbors.h
#pragma once

#include "colonnade/comm/backend.h"
#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/api.h"

#include <string>

namespace colonnade {

/// What `ProcessPlace::host` is for this process: containers of one kernel have
/// names of their own.
COLONNADE_API std::string host_identity();

/// Who is where, as all processes of a world tell each other.
struct Neighbors {
  bool one_host = true;    ///< All ranks are on this host.
  int sharing = 0;         ///< Ranks that may run on just this one's cores.
  int index_in_share = 0;  ///< Of this rank, among them.
};

/// Collective over all processes of the place.
///
/// Errors  CommError where one does not come within the place's timeout
COLONNADE_API Neighbors meet_neighbors(const ProcessPlace& place);

/// The backend for such processes, where nobody has named one: shared memory
/// where all can have it, else messages.
COLONNADE_API const Backend& fitting_backend(const Neighbors& neighbors);

}  // namespace colonnade
