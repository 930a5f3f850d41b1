// colonnade/comm/detail/message_world.cpp
#include "colonnade/comm/detail/message_world.h"

#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/silence.h"
#include "colonnade/comm/detail/waits.h"
#include "colonnade/core/error.h"

#include <thread>
#include <utility>

namespace colonnade::detail {
namespace {

/// How long a process that closes its connections may take to say why: one that
/// ran out of time can do so only afterwards.
constexpr std::chrono::milliseconds kPatience = std::chrono::seconds(1);
constexpr std::chrono::milliseconds kBetweenLooks{20};
constexpr std::chrono::milliseconds kNoTime{0};
/// By how much processes may differ in when they find a host silent.
constexpr std::chrono::milliseconds kForTheOthers = std::chrono::seconds(2);
/// How long one that finds another gone without a word looks for a silent host.
constexpr std::chrono::milliseconds kForSilence{1500};

/// FNV-1a.
class TagHash {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) {
      hash_ = (hash_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
  }
  uint32_t below(uint32_t limit) const {
    return static_cast<uint32_t>((hash_ >> 32) % limit);
  }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace

MessageWorld::MessageWorld(const ProcessPlace& place,
                           std::shared_ptr<ProcessFates> fates,
                           std::unique_ptr<Mesh> mesh,
                           std::shared_ptr<const Peers> peers,
                           std::unique_ptr<Heartbeat> heartbeat)
    : rank(place.rank),
      size(place.size),
      timeout(place.timeout),
      fates_(std::move(fates)),
      mesh_(std::move(mesh)),
      peers_(std::move(peers)),
      watch_(peers_, fates_, std::move(heartbeat),
             [this] { mesh_->interrupt(); }) {}

Mesh::Outcome MessageWorld::wait(Mesh::Clock::time_point deadline) {
  if (std::exchange(is_looking_, false)) {
    watch_.end_wait();
  }
  const std::lock_guard lock(using_mesh_);
  throw_if_failed();
  watch_.begin_wait();
  Mesh::Outcome outcome = mesh_->wait(deadline);
  watch_.end_wait();
  return outcome;
}

void MessageWorld::look() {
  check_alive();
  if (!std::exchange(is_looking_, true)) {
    watch_.begin_wait();
  }
  const int other = looks_++ % size;  // one at a time: all ask the rendezvous
  if (other == rank) {
    return;
  }
  const bool ended = peers_->has_ended(other);
  if (const auto fate = fates_->of(other, kNoTime)) {
    if (!fate->returned) {
      fail_and_throw(fate->reason);
    }
  } else if (ended) {
    fail_and_throw(concat(peers_->name(other), " is gone without a word; ",
                          peers_->how_it_ended(other)));
  }
}

void MessageWorld::check_alive() {
  if (watch_.has_lost()) {
    fail(watch_.lost());
  }
  throw_if_failed();
  check<CommError>(mesh_->is_open(), mesh_->backend(), ": rank ", rank,
                   " has left its world, and can call no collective any more");
}

void MessageWorld::throw_if_failed() const {
  check<CommError>(!failed_.load(std::memory_order_acquire), reason_);
}

void MessageWorld::fail(std::string_view reason) noexcept {
  const std::lock_guard failing(failing_);
  if (failed_.load(std::memory_order_relaxed)) {
    return;
  }
  try {
    reason_ = reason;
  } catch (...) {  // no memory for the reason: the failure stands without it
  }
  failed_.store(true, std::memory_order_release);
  fates_->failed(reason);
  mesh_->interrupt();
  const std::lock_guard lock(using_mesh_);
  mesh_->abandon();
}

void MessageWorld::fail_and_throw(std::string_view reason) {
  fail(reason);
  throw CommError(reason_);
}

void MessageWorld::fail_since_gone(int64_t gone, const Call& call,
                                   uint64_t number, const std::string& group,
                                   std::string_view why) {
  const int peer = static_cast<int>(gone);
  const auto end = Mesh::Clock::now() + kForSilence;
  const auto fate = wait_for_fate(peer);
  if (!fate) {
    // It may have found a host silent, and could not say so at a store there.
    if (const std::optional<int> silent = find_silent(end)) {
      fail_since_silent(*silent);
    }
    if (!why.empty() && !peers_->has_ended(peer)) {
      fail_and_throw(
          concat(backend(), ": rank ", rank, " cannot exchange messages with ",
                 peers_->name(peer), " in ", to_string(call), ", call ", number,
                 " of ", group, ": ", why.substr(0, why.find('\n'))));
    }
    fail_and_throw(
        concat(peers_->name(peer),
               " is gone: it closed its connection without a word, while rank ",
               rank, " waited for it in ", to_string(call), ", call ", number,
               " of ", group, "; ", peers_->how_it_ended(peer)));
  }
  if (fate->returned) {
    fail_and_throw(has_returned({gone}, rank, call, number - 1, group));
  }
  fail_and_throw(fate->reason);
}

std::optional<int> MessageWorld::find_silent(Mesh::Clock::time_point end) {
  const std::lock_guard lock(using_mesh_);
  return mesh_->find_silent(end);
}

std::optional<ProcessFates::Fate> MessageWorld::wait_for_fate(int gone) const {
  const auto end = Mesh::Clock::now() + kPatience;
  for (;;) {
    // It would have told before it ended.
    const bool ended = peers_->has_ended(gone) || Mesh::Clock::now() >= end;
    auto fate = fates_->of(gone, ended ? kNoTime : kBetweenLooks);
    if (fate || ended) {
      return fate;
    }
  }
}

void MessageWorld::fail_since_lost() {
  fail_and_throw(watch_.lost());
}

void MessageWorld::fail_since_silent(int64_t silent) {
  // The others on this side find the same, unless this process leaves first.
  std::this_thread::sleep_for(kForTheOthers);
  fail_and_throw(concat(peers_->name(static_cast<int>(silent)),
                        " has not been heard of for ", kLongestSilence.count(),
                        " s; its host or the network between is lost"));
}

void MessageWorld::leave() noexcept {
  fates_->returned();
  const std::lock_guard lock(using_mesh_);
  mesh_->close();
}

uint32_t MessageWorld::new_tag(const std::string& name,
                               const std::vector<int64_t>& ranks) {
  const uint32_t turn = turns_[{name, ranks}]++;
  TagHash hash;
  hash.add(concat(name, '\n', rank_list(ranks), '\n', turn));
  const auto [place, is_new] = tags_.emplace(hash.below(mesh_->tags()), ranks);
  // As good as never: such groups could take each other's messages.
  check_arg(is_new, "make_group: the name \"", name,
            "\" has by chance the same number as that of another group of ",
            rank_list(place->second), "; choose another name");
  return place->first;
}

}  // namespace colonnade::detail
