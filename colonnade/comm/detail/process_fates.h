// colonnade/comm/detail/process_fates.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/core/api.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace colonnade::detail {

/// How each process of a world ended, for the others to read when they notice
/// that it is gone.
class COLONNADE_API ProcessFates {
 public:
  ProcessFates(std::shared_ptr<Rendezvous> rendezvous, int rank);

  /// What became of this process, for the first call; then nothing.
  void returned() noexcept { tell("returned"); }
  void failed(std::string_view reason) noexcept;

  struct Fate {
    bool returned;
    std::string reason;  ///< Why it failed; empty where it returned.
  };
  /// Nothing where the process did not say, as one that was killed.
  std::optional<Fate> of(int rank, std::chrono::milliseconds patience) const;

  /// For a process that cannot speak for itself: which it is and what became of
  /// it, to all. Of several who say so one is heard.
  void tell_lost(std::string_view what) noexcept;
  std::optional<std::string> lost() const;

 private:
  void tell(std::string_view fate) noexcept;

  std::shared_ptr<Rendezvous> rendezvous_;
  int rank_;
  std::atomic<bool> told_ = false;
};

}  // namespace colonnade::detail
