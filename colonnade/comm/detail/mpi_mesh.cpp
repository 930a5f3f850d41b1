// colonnade/comm/detail/mpi_mesh.cpp
#include "colonnade/comm/detail/mpi_mesh.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

namespace colonnade::detail {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// MPI counts the bytes of a message in an int.
constexpr size_t kChunkBytes = size_t{1} << 30;

/// How long one that has lost patience sleeps between two tests.
constexpr microseconds kNap{50};

constexpr milliseconds kBetweenLooks{20};
/// How long a message may be under way from a process that has returned.
constexpr milliseconds kOnTheWay = std::chrono::seconds(1);
/// How long a receive that is given up may take to end.
constexpr milliseconds kToEnd{100};

void sort_out(std::vector<int>& ranks) {
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
}

}  // namespace

/// Looks for the fates of those that this process waits for, one at a time:
/// the rendezvous may serve many.
class MpiMesh::Watch {
 public:
  Watch(const ProcessFates& fates, Clock::time_point now)
      : fates_(fates), next_(now + kBetweenLooks) {}

  bool is_due(Clock::time_point now) const { return now >= next_; }

  /// Who of `missing` is gone, and sends nothing any more.
  std::optional<int> look(const std::vector<int>& missing,
                          Clock::time_point now) {
    next_ = now + kBetweenLooks;
    if (std::count(missing.begin(), missing.end(), returned_) == 0) {
      returned_ = kNobody;
    } else if (now - since_ >= kOnTheWay) {
      return returned_;
    }
    const int peer = missing[turn_++ % missing.size()];
    const auto fate = fates_.of(peer, milliseconds(0));
    if (fate && !fate->returned) {
      return peer;
    }
    if (fate && returned_ == kNobody) {
      returned_ = peer;
      since_ = now;
    }
    return std::nullopt;
  }

 private:
  static constexpr int kNobody = -1;

  const ProcessFates& fates_;
  Clock::time_point next_;
  size_t turn_ = 0;
  int returned_ = kNobody;
  Clock::time_point since_;
};

MpiMesh::MpiMesh(std::unique_ptr<MpiPort> port,
                 std::shared_ptr<const ProcessFates> fates, Patience patience)
    : port_(std::move(port)), fates_(std::move(fates)), patience_(patience) {}

uint32_t MpiMesh::tags() const {
  return static_cast<uint32_t>(port_->last_tag()) + 1;
}

void MpiMesh::close() noexcept {
  if (port_ != nullptr) {
    port_->close();
    port_.reset();
  }
}

void MpiMesh::abandon() noexcept {
  for (Message& message : messages_) {
    if (message.is_recv && !message.done) {
      port_->cancel(message.request);
    }
  }
  // What is received must not be written any more; what is sent may be read.
  const auto end = Clock::now() + kToEnd;
  for (Message& message : messages_) {
    while (message.is_recv && !is_done(message) && Clock::now() < end) {
      std::this_thread::sleep_for(kNap);
    }
  }
  messages_.clear();
  port_.reset();
}

void MpiMesh::send(const void* from, size_t bytes, int peer, uint32_t tag) {
  const auto* next = static_cast<const std::byte*>(from);
  for (size_t left = bytes; left > 0 && broken_.empty();) {
    const size_t chunk = std::min(left, kChunkBytes);
    Message message{
        .request = 0, .peer = peer, .is_recv = false, .done = false};
    broken_ = port_->send(next, static_cast<int>(chunk), peer,
                          static_cast<int>(tag), message.request);
    messages_.push_back(message);
    next += chunk;
    left -= chunk;
  }
}

void MpiMesh::recv(void* to, size_t bytes, int peer, uint32_t tag) {
  auto* next = static_cast<std::byte*>(to);
  for (size_t left = bytes; left > 0 && broken_.empty();) {
    const size_t chunk = std::min(left, kChunkBytes);
    Message message{.request = 0, .peer = peer, .is_recv = true, .done = false};
    broken_ = port_->recv(next, static_cast<int>(chunk), peer,
                          static_cast<int>(tag), message.request);
    messages_.push_back(message);
    next += chunk;
    left -= chunk;
  }
}

bool MpiMesh::is_done(Message& message) {
  if (!message.done) {
    const std::string error = port_->test(message.request, message.done);
    if (!error.empty()) {
      broken_ = error;
      message.done = true;
    }
  }
  return message.done;
}

std::vector<int> MpiMesh::missing(size_t first) {
  std::vector<int> peers;
  for (size_t i = first; i < messages_.size(); ++i) {
    if (!is_done(messages_[i])) {
      peers.push_back(messages_[i].peer);
    }
  }
  sort_out(peers);
  return peers;
}

bool MpiMesh::are_done(size_t& first) {
  while (first < messages_.size() && is_done(messages_[first])) {
    ++first;
  }
  return first == messages_.size() || !broken_.empty();
}

Mesh::Outcome MpiMesh::wait(Clock::time_point deadline) {
  constexpr int kTestsPerClock = 16;
  const auto start = Clock::now();
  Watch watch(*fates_, start);
  size_t first = 0;
  while (!are_done(first)) {
    const auto now = Clock::now();
    if (interrupted_.load(std::memory_order_relaxed)) {
      return {.kind = Outcome::Kind::kInterrupted};
    }
    if (now >= deadline) {
      if (std::vector<int> late = missing(first); !late.empty()) {
        return {.kind = Outcome::Kind::kLate, .peers = std::move(late)};
      }
    } else if (watch.is_due(now)) {
      const std::vector<int> peers = missing(first);
      const auto gone = peers.empty() ? std::nullopt : watch.look(peers, now);
      if (gone) {
        return {.kind = Outcome::Kind::kGone, .peers = {*gone}};
      }
    } else if (now - start < patience_.spin) {
      for (int i = 0; i < kTestsPerClock && !are_done(first); ++i) {}
    } else if (now - start < patience_.spin + patience_.yield) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  if (!broken_.empty()) {
    return {.kind = Outcome::Kind::kBroken, .text = broken_};
  }
  messages_.clear();
  return {};
}

}  // namespace colonnade::detail
