// colonnade/comm/detail/meeting.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/gate.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::detail {

class Watch;

/// What one rank lays open for the others in one call.
struct alignas(64) Slot {
  /// Up to here a tensor is copied into its slot, not lent to the others.
  static constexpr size_t kPayloadBytes = 2048;

  CallKey key;
  const std::byte* in = nullptr;
  std::byte* out = nullptr;
  // The first bytes share the key's cache line: a small call costs one.
  alignas(8) std::byte payload[kPayloadBytes];
  std::array<int64_t, Call::kMaxDims> sizes{};
  CallSite site;

  Call call() const { return {key, sizes, site}; }
};

/// A gate to come in, another to go.
struct Gates {
  explicit Gates(int members, Gate::Reach reach = Gate::Reach::kProcess)
      : arrival(members, reach), parting(members, reach) {}

  Gate arrival;
  Gate parting;
};

/// Where some ranks meet: their gates, and two slots for each, used in turn. A
/// slot is written again two rounds later: by then everyone has arrived in the
/// round between, so has read it.
struct Meeting {
  /// In memory of its own.
  Meeting(std::string what, std::vector<int64_t> world_ranks, bool is_pair);
  /// In memory that stays longer: two slots a member, one after the other.
  Meeting(std::string what, std::vector<int64_t> world_ranks, bool is_pair,
          Gates& gates, Slot* slots);

  int size() const { return static_cast<int>(ranks.size()); }
  Slot& slot(int member, uint64_t round) {
    return slots[2 * static_cast<size_t>(member) + round % 2];
  }
  const Slot& slot(int member, uint64_t round) const {
    return slots[2 * static_cast<size_t>(member) + round % 2];
  }

  std::string name;            ///< As in 'group "tp"', for errors.
  std::vector<int64_t> ranks;  ///< World ranks; of a pair sender, receiver.
  bool pair;
  std::unique_ptr<Gates> own_gates;
  std::vector<Slot> own_slots;
  Gate& arrival;
  Gate& parting;
  Slot* slots;
};

/// One member's place in a meeting. Used by that member's thread only.
class Seat {
 public:
  Seat(Watch& watch, Meeting& meeting, int member);

  /// Where a small tensor goes before `meet`.
  std::byte* payload() { return mine().payload; }

  /// Lays `call` and the pointers open, waits for all members, and compares
  /// their calls. After it, `slot` is what each of them brought; what is not in
  /// a slot may be used until `part`.
  ///
  /// Errors  CommError on every member or on none.
  void meet(const Call& call, const void* in, void* out,
            std::chrono::milliseconds timeout);
  const Slot& slot(int member) const {
    return meeting_.slot(member, round_ - 1);
  }
  /// Returns when every member is done with the others' memory. All members
  /// call it or none. Cannot fail, since every member of an open round comes.
  void part();
  /// As `part`, for members that can be lost on the way.
  ///
  /// Errors  CommError on every member or on none.
  void pass(const Call& call, std::chrono::milliseconds timeout);

  int size() const { return meeting_.size(); }
  uint64_t round() const { return round_; }  ///< That `meet` comes to next.

 private:
  Slot& mine() { return meeting_.slot(member_, round_); }
  int rank() const {
    return static_cast<int>(meeting_.ranks[static_cast<size_t>(member_)]);
  }
  /// Waits asleep for `gate` in its round `gate_round`, in `call` of `round`.
  Gate::State sleep(Gate& gate, uint64_t gate_round, uint64_t round,
                    const Call& call, std::chrono::milliseconds timeout);
  void compare(uint64_t round) const;

  Watch& watch_;
  Meeting& meeting_;
  int member_;
  uint64_t round_ = 0;
  uint64_t partings_ = 0;
};

/// Why the calls of `round` do not go together, naming the ranks at fault:
/// those whose call most others did not make, or all where no call has a
/// majority. Empty where they do.
std::string disagreement(const Meeting& meeting, uint64_t round);

}  // namespace colonnade::detail
