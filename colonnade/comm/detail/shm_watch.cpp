// colonnade/comm/detail/shm_watch.cpp
#include "colonnade/comm/detail/shm_watch.h"

#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/waits.h"
#include "colonnade/core/error.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>
#include <new>
#include <thread>

namespace colonnade::detail {
namespace {

using Clock = std::chrono::steady_clock;

template <size_t n>
void copy_text(char (&to)[n], std::string_view text) {
  const size_t length = std::min(text.size(), n - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

const ShmMeeting& of_processes(const Meeting& meeting) {
  return static_cast<const ShmMeeting&>(meeting);
}

}  // namespace

ShmWatch::ShmWatch(ShmMemory memory, const ProcessPlace& place,
                   ShmMemory::Kind kind)
    : Watch(patience_for(place.waiters()), /*is_one_process=*/false),
      rank(place.rank),
      size(place.size),
      timeout(place.timeout),
      memory_(std::move(memory)),
      board_(memory_.data(), size),
      kind_(kind),
      stopped_looks_(static_cast<size_t>(place.size)) {
  for (int other = 0; other < size; ++other) {
    const ShmRank& entry = board_.rank(other);
    processes_.emplace_back(entry.pid.load(), entry.start.load());
  }
}

void ShmWatch::begin(const Meeting& meeting, uint64_t round,
                     const Call& call) noexcept {
  ShmRank& me = board_.rank(rank);
  me.write({of_processes(meeting).number, false, round, call});
  me.gates.store(1, std::memory_order_relaxed);
  me.in_call.store(true, std::memory_order_relaxed);
}

void ShmWatch::next_gate() noexcept {
  std::atomic<uint32_t>& gates = board_.rank(rank).gates;
  gates.store(gates.load(std::memory_order_relaxed) + 1,
              std::memory_order_relaxed);
}

void ShmWatch::end() noexcept {
  board_.rank(rank).in_call.store(false, std::memory_order_relaxed);
}

ShmWatch::Opened ShmWatch::open_group(const std::string& name,
                                      const std::vector<int64_t>& ranks,
                                      size_t bytes) {
  throw_if_failed();
  const uint64_t turn = turns_[{name, ranks}]++;
  Opened opened;
  try {
    if (ranks[0] == rank) {
      opened.memory = ShmMemory(bytes, kind_);
      opened.number = board_.new_record();
      publish(opened.number, name, ranks, /*pair=*/false, turn,
              opened.memory.address());
    } else {
      opened.number = find_group(name, ranks, turn);
      opened.memory = ShmMemory(board_.record(opened.number).address);
    }
  } catch (const CommError& error) {
    fail(concat("rank ", rank, " failed: ", error.what()));
    throw_if_failed();
  }
  ShmRecord& record = board_.record(opened.number);
  const auto place = std::find(ranks.begin(), ranks.end(), rank);
  record.entered[static_cast<size_t>(place - ranks.begin())].store(true);
  record.entrance.arrive();
  wait_until([&] { return record.entrance.state(0) == Gate::State::kOpen; },
             name,
             [&] {
               std::vector<int64_t> missing;
               for (size_t i = 0; i < ranks.size(); ++i) {
                 if (!record.entered[i].load()) {
                   missing.push_back(ranks[i]);
                 }
               }
               return missing;
             });
  opened.memory.close_to_others();
  return opened;
}

uint32_t ShmWatch::new_pair(const std::string& name, int64_t src, int64_t dst) {
  const uint32_t number = board_.new_record();
  publish(number, name, {src, dst}, /*pair=*/true, 0, "");
  return number;
}

void ShmWatch::publish(uint32_t number, const std::string& name,
                       const std::vector<int64_t>& ranks, bool pair,
                       uint64_t turn, const std::string& address) {
  ShmRecord& record = board_.record(number);
  const int members = static_cast<int>(ranks.size());
  new (&record.gates) Gates(members, Gate::Reach::kHost);
  new (&record.entrance) Gate(members, Gate::Reach::kHost);
  record.pair = pair;
  record.size = members;
  std::copy(ranks.begin(), ranks.end(), record.ranks.begin());
  copy_text(record.name, name);
  record.name_hash = std::hash<std::string>()(name);
  record.turn = turn;
  copy_text(record.address, address);
  record.ready.store(true);
  // Whoever fails or leaves from here on finds the record.
  if (board_.failed_by().load() != 0) {
    shut_all();
  }
  for (const int64_t member : ranks) {
    if (board_.rank(member).left.load()) {
      shut_of(member);
    }
  }
}

uint32_t ShmWatch::find_group(const std::string& name,
                              const std::vector<int64_t>& ranks,
                              uint64_t turn) {
  const uint64_t hash = std::hash<std::string>()(name);
  uint32_t number = 0;
  wait_until(
      [&] {
        for (number = 0; number < board_.records(); ++number) {
          const ShmRecord& record = board_.record(number);
          if (record.ready.load() && !record.pair && record.turn == turn &&
              record.name_hash == hash && record.rank_list() == ranks) {
            return true;
          }
        }
        return false;
      },
      name, [&] { return std::vector<int64_t>{ranks[0]}; });
  return number;
}

template <typename Done, typename Missing>
void ShmWatch::wait_until(Done done, const std::string& name, Missing missing) {
  const auto start = Clock::now();
  auto nap = std::chrono::microseconds(10);
  while (!done()) {
    throw_if_failed();
    find_lost();
    const std::vector<int64_t> gone = missing();
    if (std::any_of(gone.begin(), gone.end(), [&](int64_t member) {
          return board_.rank(member).left.load();
        })) {
      fail(concat(rank_list(gone), gone.size() == 1 ? " has" : " have",
                  " returned, but rank ", rank, " waits in make_group of ",
                  name, "; all ranks must make the same calls"));
    } else if (timeout.count() >= 0 && Clock::now() - start > timeout) {
      fail(concat("rank ", rank, " waited ", timeout.count(),
                  " ms in make_group of ", name, " for ",
                  did_not_come(gone, {})));
    }
    std::this_thread::sleep_for(nap);
    nap = std::min(nap * 2, std::chrono::microseconds(1000));
  }
}

void ShmWatch::throw_if_failed() {
  if (const int32_t by = board_.failed_by().load(); by != 0) {
    shut_all();  // whoever has failed may not have come to all of them yet
    throw CommError(board_.rank(by - 1).reason);
  }
}

void ShmWatch::check_alive() {
  throw_if_failed();
  find_lost();
  throw_if_failed();
}

void ShmWatch::fail(std::string_view reason) noexcept {
  std::lock_guard lock(failing_);
  if (board_.failed_by().load() == 0) {
    copy_text(board_.rank(rank).reason, reason);
    int32_t none = 0;
    board_.failed_by().compare_exchange_strong(none, rank + 1);
  }
  shut_all();
}

void ShmWatch::shut_all() noexcept {
  for (uint32_t i = 0; i < board_.records(); ++i) {
    ShmRecord& record = board_.record(i);
    if (record.ready.load()) {
      record.gates.arrival.shut();
      record.gates.parting.shut();
    }
  }
}

void ShmWatch::shut_of(int64_t gone) noexcept {
  for (uint32_t i = 0; i < board_.records(); ++i) {
    ShmRecord& record = board_.record(i);
    if (record.ready.load() &&
        std::find(record.ranks.begin(), record.ranks.begin() + record.size,
                  gone) != record.ranks.begin() + record.size) {
      record.gates.arrival.shut();
      record.gates.parting.shut();
    }
  }
}

void ShmWatch::leave() noexcept {
  board_.rank(rank).left.store(true);
  shut_of(rank);
}

void ShmWatch::throw_reason(const Meeting& meeting, int of, uint64_t round,
                            const Call& call) {
  if (board_.failed_by().load() == 0) {
    std::vector<int64_t> gone;
    std::copy_if(
        meeting.ranks.begin(), meeting.ranks.end(), std::back_inserter(gone),
        [&](int64_t member) { return board_.rank(member).left.load(); });
    fail(has_returned(gone, of, call, round, meeting.name));
  }
  throw_if_failed();
  throw CommError(std::string(meeting.name) + " was shut");  // not to be seen
}

void ShmWatch::block(int, const Meeting& meeting, uint64_t round,
                     const Call& call) {
  board_.rank(rank).write({of_processes(meeting).number, true, round, call});
  // Of two ranks that block, one sees both.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  find_circle();
}

void ShmWatch::unblock(int) noexcept {
  ShmRank& me = board_.rank(rank);
  ShmPlace place = me.place;
  place.waits = false;
  me.write(place);
}

std::chrono::nanoseconds ShmWatch::look(const Meeting& meeting) {
  if (board_.failed_by().load() != 0) {
    shut_all();  // whoever has failed may have died before it could
    return kNap;
  }
  for (const int64_t member : meeting.ranks) {
    if (board_.rank(member).left.load()) {  // and may have died since
      meeting.arrival.shut();
      meeting.parting.shut();
    }
  }
  find_lost();
  return kNap;
}

void ShmWatch::find_lost() {
  const auto now = Clock::now();
  if (now - looked_ < kNap / 2) {
    return;
  }
  find_dead();
  if (now - looked_for_stopped_ >= kStoppedPause) {
    find_stopped();
    looked_for_stopped_ = Clock::now();
  }
  looked_ = Clock::now();
}

void ShmWatch::find_dead() {
  for (int other = 0; other < size; ++other) {
    // A rank that leaves says so before it ends.
    if (other != rank && !processes_[static_cast<size_t>(other)].lives() &&
        !board_.rank(other).left.load()) {
      fail(concat("rank ", other, " (process ", board_.rank(other).pid.load(),
                  ") died",
                  processes_[static_cast<size_t>(other)].how_it_ended(), ' ',
                  last_seen(other)));
      return;
    }
  }
}

void ShmWatch::find_stopped() {
  for (int other = 0; other < size; ++other) {
    int& looks = stopped_looks_[static_cast<size_t>(other)];
    const bool is_stopped =
        other != rank && processes_[static_cast<size_t>(other)].is_stopped() &&
        !board_.rank(other).left.load();
    looks = is_stopped ? looks + 1 : 0;
    if (looks == kStoppedLooks) {
      fail(concat("rank ", other, " (process ", board_.rank(other).pid.load(),
                  ") has been stopped by a signal ", last_seen(other)));
      return;
    }
  }
}

std::string ShmWatch::last_seen(int64_t other) const {
  const ShmPlace place = see(other).place;
  return place.meeting == ShmPlace::kNone
             ? "before its first call"
             : concat(board_.rank(other).in_call.load() ? "in " : "after ",
                      to_string(place.call), ", call ", place.round + 1, " of ",
                      board_.record(place.meeting).name);
}

ShmWatch::Seen ShmWatch::see(int64_t other) const {
  constexpr int kTries = 100;
  const ShmRank& entry = board_.rank(other);
  Seen seen;
  for (int i = 0; i < kTries && !seen.whole; ++i) {
    if (i > 0) {
      sched_yield();
    }
    seen.version = entry.version.load(std::memory_order_acquire);
    seen.place = entry.place;
    std::atomic_thread_fence(std::memory_order_acquire);
    seen.whole = seen.version % 2 == 0 &&
                 entry.version.load(std::memory_order_relaxed) == seen.version;
  }
  if (seen.version == 0) {
    seen.place = {};
  }
  return seen;
}

std::vector<ShmWatch::Seen> ShmWatch::see_all() const {
  std::vector<Seen> all;
  for (int other = 0; other < size; ++other) {
    all.push_back(see(other));
  }
  return all;
}

bool ShmWatch::waits(const Seen& seen) const {
  return seen.whole && seen.place.waits &&
         board_.record(seen.place.meeting)
                 .gates.arrival.state(seen.place.round) ==
             Gate::State::kWaiting;
}

std::string ShmWatch::where(int64_t other, const ShmPlace& place) const {
  return waits_in(other, place.call, place.round,
                  board_.record(place.meeting).name);
}

void ShmWatch::find_circle() {
  const std::vector<Seen> seen = see_all();
  std::vector<bool> stuck;
  for (const Seen& one : seen) {
    stuck.push_back(waits(one));
  }
  keep_circle(stuck, [&](size_t i, size_t j) {
    const uint32_t meeting = seen[i].place.meeting;
    const std::vector<int64_t> ranks = board_.record(meeting).rank_list();
    return seen[j].place.meeting != meeting &&
           std::find(ranks.begin(), ranks.end(), static_cast<int64_t>(j)) !=
               ranks.end();
  });
  std::vector<std::string> places;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (!stuck[i]) {
      continue;
    }
    // Seen one after the other, they may never have waited at one time; those
    // that wait still did when the last of them was seen.
    const auto other = static_cast<int64_t>(i);
    const Seen again = see(other);
    if (again.version != seen[i].version || !waits(again)) {
      return;
    }
    places.push_back(where(other, again.place));
  }
  if (!places.empty()) {
    fail(wait_for_each_other(places));
  }
}

std::string ShmWatch::absent(const Meeting& meeting, uint64_t round) const {
  const uint32_t number = of_processes(meeting).number;
  const uint32_t gates = board_.rank(rank).gates.load();
  std::vector<int64_t> missing;
  std::vector<std::string> elsewhere;
  for (const int64_t member : meeting.ranks) {
    const ShmRank& entry = board_.rank(member);
    const Seen seen = see(member);
    const ShmPlace& place = seen.place;
    const bool here = place.meeting == number && place.round == round;
    if (here && entry.in_call.load() && entry.gates.load() >= gates) {
      continue;
    }
    missing.push_back(member);
    if (!here && waits(seen)) {
      elsewhere.push_back(where(member, place));
    }
  }
  return did_not_come(missing, elsewhere);
}

}  // namespace colonnade::detail
