// colonnade/comm/backend.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/api.h"

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {

/// A way for ranks to exchange tensors: one row of the backend table.
struct Backend {
  std::string_view name;
  std::string_view summary;  ///< One line for people.
  bool built_in;             ///< Whether this build contains it.
  /// Why it cannot run here; empty when it can.
  std::string (*why_not)();
  /// The worlds of `size` ranks that all live in this process, in rank order,
  /// whose groups start with `timeout`; null where ranks of this backend are
  /// processes.
  std::vector<WorldPtr> (*make_local_worlds)(int size,
                                             std::chrono::milliseconds timeout);
  /// The world of a process that is one rank; null where ranks of this backend
  /// are threads. Collective over all processes of the world.
  WorldPtr (*make_process_world)(const ProcessPlace& place);
};

/// All backends, usable or not.
COLONNADE_API std::span<const Backend> backends();

/// The row called `name`; InvalidArgument lists the names there are.
COLONNADE_API const Backend& find_backend(std::string_view name);

}  // namespace colonnade
