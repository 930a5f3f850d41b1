// colonnade/comm/detail/shm_watch.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/host_process.h"
#include "colonnade/comm/detail/meeting.h"
#include "colonnade/comm/detail/shm_board.h"
#include "colonnade/comm/detail/shm_memory.h"
#include "colonnade/comm/detail/watch.h"
#include "colonnade/comm/rendezvous.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::detail {

/// A meeting of processes; its gates are in its record on the board.
struct ShmMeeting : Meeting {
  ShmMeeting(std::string what, ShmRecord& record, uint32_t its_number,
             Slot* all_slots)
      : Meeting(std::move(what), record.rank_list(), record.pair, record.gates,
                all_slots),
        number(its_number) {}

  uint32_t number;
};

/// One rank's eyes on the other processes of its world.
///
/// Nobody tells of a process that was killed: whoever sleeps wakes every
/// `kNap` and looks whether all live.
class ShmWatch final : public Watch {
 public:
  static constexpr std::chrono::milliseconds kNap{50};
  /// A process that is seen stopped so often, so far apart, is lost. Counted,
  /// not timed, by whoever was not stopped itself meanwhile.
  static constexpr int kStoppedLooks = 5;
  static constexpr std::chrono::milliseconds kStoppedPause{200};

  /// memory  the board, with every rank's process on it
  /// kind    of the memory that groups get
  ShmWatch(ShmMemory memory, const ProcessPlace& place, ShmMemory::Kind kind);

  const int rank;
  const int size;
  const std::chrono::milliseconds timeout;  ///< What groups start with.

  struct Opened {
    uint32_t number = 0;
    ShmMemory memory;
  };
  /// This rank's part of making a group: the number of its record, and memory
  /// of `bytes` that only its members have. Waits for all of them.
  Opened open_group(const std::string& name, const std::vector<int64_t>& ranks,
                    size_t bytes);
  /// Makes the record of a pair of that group.
  uint32_t new_pair(const std::string& name, int64_t src, int64_t dst);
  ShmRecord& record(uint32_t number) { return board_.record(number); }

  void begin(const Meeting& meeting, uint64_t round,
             const Call& call) noexcept override;
  void next_gate() noexcept override;
  void end() noexcept override;

  /// Throws why the world has failed, or what became of a rank that is lost.
  void check_alive();

  void leave() noexcept;

  void fail(std::string_view reason) noexcept override;
  [[noreturn]] void throw_reason(const Meeting& meeting, int rank,
                                 uint64_t round, const Call& call) override;
  void block(int rank, const Meeting& meeting, uint64_t round,
             const Call& call) override;
  void unblock(int rank) noexcept override;
  std::chrono::nanoseconds look(const Meeting& meeting) override;
  std::string absent(const Meeting& meeting, uint64_t round) const override;

 private:
  struct Seen {
    ShmPlace place;
    uint64_t version = 0;
    bool whole = false;  ///< Not caught while it was written.
  };

  void publish(uint32_t number, const std::string& name,
               const std::vector<int64_t>& ranks, bool pair, uint64_t turn,
               const std::string& address);
  uint32_t find_group(const std::string& name,
                      const std::vector<int64_t>& ranks, uint64_t turn);
  template <typename Done, typename Missing>
  void wait_until(Done done, const std::string& name, Missing missing);
  void throw_if_failed();
  void shut_all() noexcept;
  void shut_of(int64_t gone) noexcept;
  void find_lost();
  void find_dead();
  void find_stopped();
  /// "in all_reduce(…), call 3 of group "tp"", or after, or before the first.
  std::string last_seen(int64_t other) const;
  Seen see(int64_t other) const;
  std::vector<Seen> see_all() const;
  bool waits(const Seen& seen) const;
  std::string where(int64_t other, const ShmPlace& place) const;
  void find_circle();

  ShmMemory memory_;
  ShmBoard board_;
  ShmMemory::Kind kind_;
  std::vector<HostProcess> processes_;
  std::chrono::steady_clock::time_point looked_;
  std::chrono::steady_clock::time_point looked_for_stopped_;
  std::vector<int> stopped_looks_;  // in a row, by rank
  std::map<std::pair<std::string, std::vector<int64_t>>, uint64_t> turns_;
  std::mutex failing_;
};

}  // namespace colonnade::detail
