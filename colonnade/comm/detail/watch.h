// colonnade/comm/detail/watch.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/patience.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace colonnade::detail {

struct Meeting;

/// What a member of a meeting asks of its world when a peer does not come. No
/// collective does unless it must sleep or fail.
class Watch {
 public:
  Watch(Patience wait, bool is_one_process)
      : patience(wait), one_process(is_one_process) {}
  virtual ~Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  const Patience patience;
  /// Whether members are threads of one process: they see each other's memory,
  /// and none is lost in the middle of a call.
  const bool one_process;

  /// What others see of a rank: that it begins a call, comes to a further gate
  /// of it, and is through with it.
  virtual void begin(const Meeting&, uint64_t /*round*/, const Call&) noexcept {
  }
  virtual void next_gate() noexcept {}
  virtual void end() noexcept {}

  /// Records why the world failed, unless it has failed before, and turns away
  /// everyone who waits.
  virtual void fail(std::string_view reason) noexcept = 0;
  /// Throws the first reason. Where there is none, the meeting was shut because
  /// a member left, and `call` of `rank`, which cannot happen, is the reason.
  [[noreturn]] virtual void throw_reason(const Meeting& meeting, int rank,
                                         uint64_t round, const Call& call) = 0;

  /// Notes that `rank` waits, and fails the world where it waits in vain.
  virtual void block(int rank, const Meeting& meeting, uint64_t round,
                     const Call& call) = 0;
  virtual void unblock(int rank) noexcept = 0;
  /// Fails the world where a rank is lost. Returns how long the caller may
  /// sleep before it looks again.
  virtual std::chrono::nanoseconds look(const Meeting& meeting) = 0;
  /// Who did not come to `round`, and what each of them waits for instead.
  virtual std::string absent(const Meeting& meeting, uint64_t round) const = 0;
};

}  // namespace colonnade::detail
