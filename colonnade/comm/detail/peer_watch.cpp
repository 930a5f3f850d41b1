// colonnade/comm/detail/peer_watch.cpp
#include "colonnade/comm/detail/peer_watch.h"

#include "colonnade/core/detail/signals.h"
#include "colonnade/core/error.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace colonnade::detail {

PeerWatch::PeerWatch(std::shared_ptr<const Peers> peers,
                     std::shared_ptr<ProcessFates> fates,
                     std::unique_ptr<Heartbeat> heartbeat,
                     std::function<void()> wake)
    : peers_(std::move(peers)),
      fates_(std::move(fates)),
      heartbeat_(std::move(heartbeat)),
      wake_(std::move(wake)),
      stopped_looks_(static_cast<size_t>(peers_->size())),
      ends_(eventfd(0, EFD_CLOEXEC)) {
  check<CommError>(
      static_cast<bool>(ends_),
      "launch: cannot watch the other processes: ", std::strerror(errno));
  thread_ = std::thread([this] { run(); });
}

PeerWatch::~PeerWatch() {
  eventfd_write(ends_.number(), 1);
  thread_.join();
}

std::string PeerWatch::lost() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void PeerWatch::run() {
  block_signals();
  while (!pause()) {
    if (!has_lost()) {
      look();
    }
  }
}

bool PeerWatch::pause() {
  pollfd ends{ends_.number(), POLLIN, 0};
  if (heartbeat_ != nullptr) {
    heartbeat_->serve(ends_.number(), kPause);
    return poll(&ends, 1, 0) == 1;
  }
  return poll(&ends, 1, static_cast<int>(kPause.count())) == 1;
}

void PeerWatch::look() {
  if (heartbeat_ != nullptr && heartbeat_->lost()) {
    return set_lost(*heartbeat_->lost());
  }
  const uint64_t wait = waits_.load(std::memory_order_relaxed);
  const bool is_new = wait != seen_wait_;
  if (is_new) {
    seen_wait_ = wait;
    looks_ = 0;
    stopped_looks_.assign(stopped_looks_.size(), 0);
  }
  if (wait % 2 == 0) {
    return;
  }
  find_stopped();
  if (!has_lost() && heartbeat_ != nullptr) {
    find_silent(is_new);
  }
  if (!has_lost() && ++looks_ % kAsk == 0) {
    read_rendezvous();
  }
}

void PeerWatch::find_stopped() {
  for (int rank = 0; rank < peers_->size(); ++rank) {
    int& looks = stopped_looks_[static_cast<size_t>(rank)];
    looks = peers_->is_stopped(rank) ? looks + 1 : 0;
    if (looks == kStoppedLooks) {
      return tell_lost(peers_->name(rank) + " has been stopped by a signal");
    }
  }
}

void PeerWatch::find_silent(bool is_new_wait) {
  constexpr auto kSilence = std::chrono::duration_cast<std::chrono::seconds>(
      Heartbeat::kSilentLooks * kPause);
  if (const auto rank = heartbeat_->look(is_new_wait)) {
    tell_lost(concat(
        peers_->name(*rank), " has not answered for ", kSilence.count(),
        " s, though its host does: it has been stopped, or gets no core"));
  }
}

void PeerWatch::read_rendezvous() {
  if (std::optional<std::string> reason = fates_->lost()) {
    set_lost(std::move(*reason));
  }
}

void PeerWatch::tell_lost(const std::string& reason) {
  if (heartbeat_ != nullptr) {
    heartbeat_->tell_lost(reason);
    heartbeat_->serve(ends_.number(), kPause);  // this process may end soon
  }
  fates_->tell_lost(reason);
  set_lost(reason);
}

void PeerWatch::set_lost(std::string reason) {
  {
    const std::lock_guard lock(mutex_);
    reason_ = std::move(reason);
  }
  has_lost_.store(true, std::memory_order_release);
  wake_();
}

}  // namespace colonnade::detail
