// colonnade/comm/detail/meeting.cpp
#include "colonnade/comm/detail/meeting.h"

#include "colonnade/comm/detail/patience.h"
#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/watch.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace colonnade::detail {
namespace {

using Clock = std::chrono::steady_clock;

/// The part of a call on which the members of the meeting must agree.
CallKey common_part(const Meeting& meeting, CallKey key) {
  if (meeting.pair) {  // one sends, the other receives
    key.collective = Collective::kSend;
    key.peer = -1;
  }
  return key;
}

}  // namespace

Meeting::Meeting(std::string what, std::vector<int64_t> world_ranks,
                 bool is_pair)
    : name(std::move(what)),
      ranks(std::move(world_ranks)),
      pair(is_pair),
      own_gates(std::make_unique<Gates>(size())),
      own_slots(2 * ranks.size()),
      arrival(own_gates->arrival),
      parting(own_gates->parting),
      slots(own_slots.data()) {}

Meeting::Meeting(std::string what, std::vector<int64_t> world_ranks,
                 bool is_pair, Gates& gates, Slot* all_slots)
    : name(std::move(what)),
      ranks(std::move(world_ranks)),
      pair(is_pair),
      arrival(gates.arrival),
      parting(gates.parting),
      slots(all_slots) {}

Seat::Seat(Watch& watch, Meeting& meeting, int member)
    : watch_(watch), meeting_(meeting), member_(member) {}

Gate::State Seat::sleep(Gate& gate, uint64_t gate_round, uint64_t round,
                        const Call& call, std::chrono::milliseconds timeout) {
  const auto start = Clock::now();
  Gate::State state = gate.state(gate_round);
  while (state == Gate::State::kWaiting) {
    std::chrono::nanoseconds left = watch_.look(meeting_);
    if (timeout.count() >= 0) {
      left = std::min<std::chrono::nanoseconds>(
          left, timeout - (Clock::now() - start));
    }
    if (left.count() > 0) {
      gate.sleep(gate_round, left);
    } else {
      // Shuts the gate, which settles whether the last one came in time.
      watch_.fail(concat("rank ", rank(), " waited ", timeout.count(),
                         " ms in ", to_string(call), ", call ", round + 1,
                         " of ", meeting_.name, ", for ",
                         watch_.absent(meeting_, round)));
    }
    state = gate.state(gate_round);
  }
  return state;
}

void Seat::meet(const Call& call, const void* in, void* out,
                std::chrono::milliseconds timeout) {
  Slot& slot = mine();
  slot.key = call.key;
  slot.sizes = call.sizes;
  slot.site = call.site;
  slot.in = static_cast<const std::byte*>(in);
  slot.out = static_cast<std::byte*>(out);
  meeting_.arrival.arrive();
  Gate::State state = look_awake(meeting_.arrival, round_, watch_.patience);
  if (state == Gate::State::kWaiting) {
    watch_.block(rank(), meeting_, round_, call);
    state = sleep(meeting_.arrival, round_, round_, call, timeout);
    watch_.unblock(rank());
  }
  if (state == Gate::State::kShut) {
    watch_.throw_reason(meeting_, rank(), round_, call);
  }
  // First: a rank that calls again after an error must not write to what the
  // others still compare.
  const uint64_t round = round_++;
  compare(round);
}

void Seat::compare(uint64_t round) const {
  const CallKey key = common_part(meeting_, meeting_.slot(0, round).key);
  bool agree = true;
  for (int i = 1; i < size(); ++i) {
    agree &= common_part(meeting_, meeting_.slot(i, round).key) == key;
  }
  if (!agree) [[unlikely]] {
    const std::string reason = disagreement(meeting_, round);
    watch_.fail(reason);
    throw CommError(reason);
  }
}

void Seat::part() {
  meeting_.parting.arrive();
  wait(meeting_.parting, partings_, watch_.patience);
  ++partings_;
}

void Seat::pass(const Call& call, std::chrono::milliseconds timeout) {
  meeting_.parting.arrive();
  Gate::State state = look_awake(meeting_.parting, partings_, watch_.patience);
  if (state == Gate::State::kWaiting) {
    state = sleep(meeting_.parting, partings_, round_ - 1, call, timeout);
  }
  if (state == Gate::State::kShut) {
    watch_.throw_reason(meeting_, rank(), round_ - 1, call);
  }
  ++partings_;
}

std::string disagreement(const Meeting& meeting, uint64_t round) {
  struct Side {
    CallKey key;
    std::string text;
    std::vector<int64_t> ranks;
  };
  std::vector<Side> sides;
  for (int i = 0; i < meeting.size(); ++i) {
    const Slot& slot = meeting.slot(i, round);
    const CallKey key = common_part(meeting, slot.key);
    auto side = std::find_if(sides.begin(), sides.end(),
                             [&](const Side& s) { return s.key == key; });
    if (side == sides.end()) {
      side = sides.insert(side, {key, to_string(slot.call()), {}});
    }
    side->ranks.push_back(meeting.ranks[static_cast<size_t>(i)]);
  }
  std::stable_sort(sides.begin(), sides.end(),
                   [](const Side& a, const Side& b) {
                     return a.ranks.size() < b.ranks.size();
                   });
  std::string calls;
  for (size_t i = 0; i < sides.size(); ++i) {
    calls += concat(i == 0                 ? ""
                    : i + 1 < sides.size() ? ", "
                                           : " but ",
                    rank_list(sides[i].ranks), " called ", sides[i].text);
  }
  const bool majority =
      2 * sides.back().ranks.size() > static_cast<size_t>(meeting.size());
  std::vector<int64_t> at_fault;
  for (const Side& side : sides) {
    if (!majority || &side != &sides.back()) {
      at_fault.insert(at_fault.end(), side.ranks.begin(), side.ranks.end());
    }
  }
  std::sort(at_fault.begin(), at_fault.end());
  return concat(rank_list(at_fault),
                majority ? " made another call than the rest"
                         : " did not make the same call",
                " in call ", round + 1, " of ", meeting.name, ": ", calls,
                "; all ranks must make the same calls in the same order");
}

}  // namespace colonnade::detail
