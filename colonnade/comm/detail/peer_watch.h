// colonnade/comm/detail/peer_watch.h
#pragma once

#include "colonnade/comm/detail/descriptor.h"
#include "colonnade/comm/detail/heartbeat.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"
#include "colonnade/core/api.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace colonnade::detail {

/// Finds out, on a thread of its own, that a process for which this one waits
/// has been stopped: its connections stay open, so nothing else tells. It looks
/// only while this process waits for long, so that others cost nothing.
///
/// A process is lost when it is seen stopped kStoppedLooks times in a row.
/// Looks are counted, not timed: where this process is stopped too, or gets no
/// core, there are none. Processes of one host see each other, and ask those of
/// others by a heartbeat. Who finds one stopped tells all the others so.
class COLONNADE_API PeerWatch {
 public:
  static constexpr std::chrono::milliseconds kPause{200};
  static constexpr int kStoppedLooks = 5;
  /// Looks of a wait until it asks the rendezvous, and between two questions.
  static constexpr int kAsk = 5;

  /// heartbeat  null: other hosts are not asked
  /// wake       called once, by the thread, when a rank is lost
  PeerWatch(std::shared_ptr<const Peers> peers,
            std::shared_ptr<ProcessFates> fates,
            std::unique_ptr<Heartbeat> heartbeat, std::function<void()> wake);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Around each wait of the process for others.
  void begin_wait() noexcept { waits_.fetch_add(1, std::memory_order_relaxed); }
  void end_wait() noexcept { waits_.fetch_add(1, std::memory_order_relaxed); }

  /// Which rank is lost, and how; empty while none is.
  std::string lost() const;
  bool has_lost() const { return has_lost_.load(std::memory_order_acquire); }

 private:
  void run();
  void look();
  /// Until `kPause` is over or the watch ends, which it returns.
  bool pause();
  /// Of this host.
  void find_stopped();
  /// Of other hosts.
  void find_silent(bool is_new_wait);
  void read_rendezvous();
  void tell_lost(const std::string& reason);
  void set_lost(std::string reason);

  std::shared_ptr<const Peers> peers_;
  std::shared_ptr<ProcessFates> fates_;
  std::unique_ptr<Heartbeat> heartbeat_;
  std::function<void()> wake_;

  std::atomic<uint64_t> waits_ = 0;  ///< Odd during a wait.
  uint64_t seen_wait_ = 0;
  int looks_ = 0;                   ///< Of that wait.
  std::vector<int> stopped_looks_;  ///< In a row, by rank.

  mutable std::mutex mutex_;
  std::string reason_;
  std::atomic<bool> has_lost_ = false;
  Descriptor ends_;     ///< An eventfd.
  std::thread thread_;  // last: it uses the others
};

}  // namespace colonnade::detail
