// colonnade/core/detail/cores.h
#pragma once

#include <vector>

namespace colonnade::detail {

/// The cores on which the calling thread may run, by number.
std::vector<int> allowed_cores();

/// How many threads can compute at once here: the allowed cores, or fewer where
/// the process's cgroup has a quota of processor time.
int usable_cores();

}  // namespace colonnade::detail
