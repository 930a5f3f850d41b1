// colonnade/comm/neighbors.h
#pragma once

#include "colonnade/comm/backend.h"
#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/api.h"

#include <span>
#include <string>
#include <string_view>

namespace colonnade {

/// What `ProcessPlace::host` is for this process. Containers of one kernel are
/// hosts of their own: their names differ, or they do not see each other's
/// processes.
COLONNADE_API std::string host_identity();

/// Who is where, as all processes of a world tell each other.
struct Neighbors {
  bool one_host = true;    ///< All ranks are on this host.
  int sharing = 0;         ///< Ranks that may run on just this one's cores.
  int index_in_share = 0;  ///< Of this rank, among them.
  /// The first of the candidates that all ranks can use where they are; null
  /// where there is none.
  const Backend* backend = nullptr;
  /// Which rank cannot use the first candidate, and why: "rank 1: there is no
  /// CUDA device".
  std::string why_not_first = {};
};

/// Collective over all processes of the place.
///
/// candidates  names of backends, the same on all ranks, the best first
/// Errors      CommError where one does not come within the place's timeout;
///             InvalidArgument, on all ranks, where candidates differ
COLONNADE_API Neighbors meet_neighbors(
    const ProcessPlace& place, std::span<const std::string_view> candidates);

}  // namespace colonnade
