// colonnade/core/cores.h
#pragma once

#include "colonnade/core/api.h"

#include <vector>

namespace colonnade {

/// The cores on which the calling thread may run, by number.
COLONNADE_API std::vector<int> allowed_cores();

/// How many threads can compute at once here: the allowed cores, or fewer where
/// the process's cgroup has a quota of processor time.
COLONNADE_API int usable_cores();

}  // namespace colonnade
