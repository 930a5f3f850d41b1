// colonnade/comm/detail/shared_world.cpp
#include "colonnade/comm/detail/shared_world.h"

#include "colonnade/comm/detail/waits.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace colonnade::detail {
namespace {

constexpr uint64_t kNoCall = ~uint64_t{0};

}  // namespace

SharedWorld::SharedWorld(int world_size,
                         std::chrono::milliseconds default_timeout)
    : Watch(patience_for(world_size), /*is_one_process=*/true),
      size(world_size),
      timeout(default_timeout),
      left_(static_cast<size_t>(world_size)),
      waiting_(static_cast<size_t>(world_size)),
      returned_from_(static_cast<size_t>(world_size), kNoCall) {}

std::shared_ptr<SharedGroup> SharedWorld::join(
    int rank, const std::string& name, const std::vector<int64_t>& ranks) {
  check_alive();
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[{name, ranks}];
  entry.joins.resize(static_cast<size_t>(size));
  const size_t turn = entry.joins[static_cast<size_t>(rank)]++;
  if (turn == entry.groups.size()) {
    auto group = std::make_shared<SharedGroup>();
    group->name = concat("group \"", name, "\"");
    group->all = std::make_unique<Meeting>(group->name, ranks, false);
    group->buffers.reset(new Channel::Line[Channel::buffer_bytes(ranks.size()) /
                                           sizeof(Channel::Line)]);
    shut_if_dead(*group->all);
    std::erase_if(groups_, [](const auto& other) { return other.expired(); });
    groups_.push_back(group);
    entry.groups.push_back(std::move(group));
  }
  std::shared_ptr<SharedGroup> group = entry.groups[turn];
  if (std::all_of(ranks.begin(), ranks.end(), [&](int64_t member) {
        return entry.joins[static_cast<size_t>(member)] > turn;
      })) {
    entry.groups[turn] = nullptr;  // the members keep it
  }
  return group;
}

Meeting& SharedWorld::pair(SharedGroup& group, int src, int dst) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<Meeting>& meeting = group.pairs[{src, dst}];
  if (meeting == nullptr) {
    const std::vector<int64_t>& ranks = group.all->ranks;
    meeting = std::make_unique<Meeting>(
        group.name,
        std::vector<int64_t>{ranks[static_cast<size_t>(src)],
                             ranks[static_cast<size_t>(dst)]},
        true);
    shut_if_dead(*meeting);
  }
  return *meeting;
}

void SharedWorld::shut_if_dead(Meeting& meeting) noexcept {
  if (failed_ || std::any_of(meeting.ranks.begin(), meeting.ranks.end(),
                             [&](int64_t rank) {
                               return left_[static_cast<size_t>(rank)];
                             })) {
    meeting.arrival.shut();
  }
}

void SharedWorld::shut_dead() noexcept {
  for (const std::weak_ptr<SharedGroup>& weak : groups_) {
    if (const std::shared_ptr<SharedGroup> group = weak.lock()) {
      shut_if_dead(*group->all);
      for (auto& [ranks, meeting] : group->pairs) {
        shut_if_dead(*meeting);
      }
    }
  }
}

void SharedWorld::check_alive() const {
  std::lock_guard lock(mutex_);
  check<CommError>(!failed_, reason_);
}

void SharedWorld::fail(std::string_view reason) noexcept {
  std::lock_guard lock(mutex_);
  fail_locked(reason);
}

void SharedWorld::fail_locked(std::string_view reason) noexcept {
  if (failed_) {
    return;
  }
  failed_ = true;
  try {
    reason_ = reason;
  } catch (...) {  // no memory for the reason: the failure stands without it
  }
  shut_dead();
}

void SharedWorld::leave(int rank) noexcept {
  std::lock_guard lock(mutex_);
  left_[static_cast<size_t>(rank)] = true;
  shut_dead();
}

void SharedWorld::throw_reason(const Meeting& meeting, int rank, uint64_t round,
                               const Call& call) {
  std::lock_guard lock(mutex_);
  if (!failed_) {
    std::vector<int64_t> gone;
    std::copy_if(
        meeting.ranks.begin(), meeting.ranks.end(), std::back_inserter(gone),
        [&](int64_t member) { return left_[static_cast<size_t>(member)]; });
    fail_locked(has_returned(gone, rank, call, round, meeting.name));
  }
  throw CommError(reason_);
}

void SharedWorld::block(int rank, const Meeting& meeting, uint64_t round,
                        const Call& call) {
  std::lock_guard lock(mutex_);
  waiting_[static_cast<size_t>(rank)] = {&meeting, round, call};
  std::string reason = in_vain(rank);
  if (reason.empty()) {
    reason = circle();
  }
  if (!reason.empty()) {
    fail_locked(reason);
  }
}

void SharedWorld::unblock(int rank) noexcept {
  std::lock_guard lock(mutex_);
  waiting_[static_cast<size_t>(rank)].meeting = nullptr;
}

void SharedWorld::rest(int rank, uint64_t call) noexcept {
  std::lock_guard lock(mutex_);
  returned_from_[static_cast<size_t>(rank)] = call;
  for (int other = 0; other < size; ++other) {
    try {
      const std::string reason = in_vain(other);
      if (!reason.empty()) {
        fail_locked(reason);
      }
    } catch (...) {  // no memory for the text
      fail_locked("a rank waits for one that has returned");
    }
  }
}

bool SharedWorld::rests(int64_t rank) const {
  // Where another rank is blocked, `call_` is the number of that rank's call:
  // the next one does not begin before it has returned.
  return returned_from_[static_cast<size_t>(rank)] ==
         call_.load(std::memory_order_relaxed);
}

std::string SharedWorld::in_vain(int rank) const {
  // A member that rests has not come to a round that waits: whoever came to it
  // is blocked there.
  const Waiting& waiting = waiting_[static_cast<size_t>(rank)];
  if (waiting.meeting == nullptr ||
      waiting.meeting->arrival.state(waiting.round) != Gate::State::kWaiting) {
    return {};
  }
  std::vector<int64_t> gone;
  std::copy_if(waiting.meeting->ranks.begin(), waiting.meeting->ranks.end(),
               std::back_inserter(gone),
               [&](int64_t member) { return rests(member); });
  return gone.empty() ? std::string()
                      : has_returned(gone, rank, waiting.call, waiting.round,
                                     waiting.meeting->name);
}

std::string SharedWorld::circle() const {
  std::vector<bool> stuck(waiting_.size());
  for (size_t i = 0; i < stuck.size(); ++i) {
    const Waiting& waiting = waiting_[i];
    stuck[i] =
        waiting.meeting != nullptr &&
        waiting.meeting->arrival.state(waiting.round) == Gate::State::kWaiting;
  }
  keep_circle(stuck, [&](size_t i, size_t j) {
    const Meeting* const meeting = waiting_[i].meeting;
    const std::vector<int64_t>& ranks = meeting->ranks;
    return waiting_[j].meeting != meeting &&
           std::find(ranks.begin(), ranks.end(), static_cast<int64_t>(j)) !=
               ranks.end();
  });
  std::vector<std::string> waits;
  for (size_t i = 0; i < stuck.size(); ++i) {
    if (stuck[i]) {
      waits.push_back(where(static_cast<int>(i)));
    }
  }
  return waits.empty() ? std::string() : wait_for_each_other(waits);
}

std::string SharedWorld::where(int rank) const {
  const Waiting& waiting = waiting_[static_cast<size_t>(rank)];
  return waits_in(rank, waiting.call, waiting.round, waiting.meeting->name);
}

std::string SharedWorld::absent(const Meeting& meeting, uint64_t round) const {
  std::lock_guard lock(mutex_);
  std::vector<int64_t> missing;
  std::vector<std::string> waits;
  for (const int64_t member : meeting.ranks) {
    const Waiting& waiting = waiting_[static_cast<size_t>(member)];
    if (waiting.meeting == &meeting && waiting.round == round) {
      continue;
    }
    missing.push_back(member);
    if (waiting.meeting != nullptr) {
      waits.push_back(where(static_cast<int>(member)));
    }
  }
  return did_not_come(missing, waits);
}

}  // namespace colonnade::detail
