// colonnade/comm/detail/peer_watch.cpp
#include "colonnade/comm/detail/peer_watch.h"

#include "colonnade/core/error.h"

#include <optional>
#include <utility>

namespace colonnade::detail {

PeerWatch::PeerWatch(std::shared_ptr<const Peers> peers,
                     std::shared_ptr<ProcessFates> fates,
                     std::function<void()> wake)
    : peers_(std::move(peers)),
      fates_(std::move(fates)),
      wake_(std::move(wake)),
      stopped_looks_(static_cast<size_t>(peers_->size())),
      thread_([this] { run(); }) {}

PeerWatch::~PeerWatch() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  ending_.notify_one();
  thread_.join();
}

std::string PeerWatch::lost() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void PeerWatch::run() {
  std::unique_lock lock(mutex_);
  while (!ends_ && !has_lost()) {
    ending_.wait_for(lock, kPause);
    if (!ends_) {
      lock.unlock();
      look();
      lock.lock();
    }
  }
}

void PeerWatch::look() {
  const uint64_t wait = waits_.load(std::memory_order_relaxed);
  if (wait % 2 == 0 || wait != seen_wait_) {
    seen_wait_ = wait;
    looks_ = 0;
    stopped_looks_.assign(stopped_looks_.size(), 0);
    return;
  }
  find_stopped();
  if (++looks_ % kAsk == 0 && !has_lost()) {
    if (std::optional<std::string> reason = fates_->lost()) {
      set_lost(std::move(*reason));
    }
  }
}

void PeerWatch::find_stopped() {
  for (int rank = 0; rank < peers_->size(); ++rank) {
    int& looks = stopped_looks_[static_cast<size_t>(rank)];
    looks = peers_->is_stopped(rank) ? looks + 1 : 0;
    if (looks == kStoppedLooks) {
      const std::string reason =
          peers_->name(rank) + " has been stopped by a signal";
      fates_->tell_lost(reason);
      set_lost(reason);
      return;
    }
  }
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
