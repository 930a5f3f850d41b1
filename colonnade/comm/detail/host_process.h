// colonnade/comm/detail/host_process.h
#pragma once

#include "colonnade/comm/detail/descriptor.h"
#include "colonnade/core/api.h"

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace colonnade::detail {

/// Another process of this host, held on to: no later one that gets its number
/// is taken for it.
class COLONNADE_API HostProcess {
 public:
  HostProcess() = default;
  /// start  as `start_of(pid)` says while it lives
  HostProcess(pid_t pid, uint64_t start);

  bool lives() const;
  /// " (signal 9)" or " (exit status 3)" of one that has ended; empty where the
  /// system does not say, as one before Linux 6.15 once the parent has noticed.
  std::string how_it_ended() const;
  /// Whether a signal has stopped it; not where a debugger has.
  bool is_stopped() const;

  /// When it was started, in ticks since the host was; 0 where there is no such
  /// process, or it has ended and its parent has not taken notice yet.
  static uint64_t start_of(pid_t pid);

 private:
  pid_t pid_ = 0;
  uint64_t start_ = 0;
  Descriptor handle_;  ///< A pidfd, where the system has them.
};

}  // namespace colonnade::detail
