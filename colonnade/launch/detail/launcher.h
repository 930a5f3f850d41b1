// colonnade/launch/detail/launcher.h
#pragma once

#include "colonnade/core/api.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace colonnade::detail {

/// The value of an environment variable; null where it is not set.
using Environment = std::function<const char*(const char*)>;

/// What the launcher that started this process says of it.
struct LauncherPlace {
  std::string launcher;  ///< Such as "torchrun", for people.
  int rank = 0;
  int size = 1;
  /// Whether all ranks are on this host; false where it does not say.
  bool one_host = false;
  /// Names this start of the job, equal on all ranks; empty: unknown.
  std::string job = {};

  // Where the ranks meet. Without a file and a host: nowhere yet.
  std::string file = {};
  bool is_own_file = false;  ///< Ours to remove.
  std::string host = {};
  uint16_t port = 0;
  /// Whether this process serves the store there, as no launcher does.
  bool serve = false;

  bool operator==(const LauncherPlace&) const = default;
};

/// The place of this process in the world of its launcher: of our own
/// variables, torchrun, Open MPI, MPICH and its kin, or Slurm, the first that
/// is there. Nothing where there is none, or it started one process.
///
/// Errors  InvalidArgument where variables are no numbers, lack their partner,
///         or are contradicted by another launcher's, or where nothing says
///         where the ranks are to meet
COLONNADE_API std::optional<LauncherPlace> find_launcher(
    const Environment& environment);

/// The first host of a list as Slurm writes it: "node[03-05,9],x" has node03.
COLONNADE_API std::string first_host(std::string_view nodes);

}  // namespace colonnade::detail
