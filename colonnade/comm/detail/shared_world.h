// colonnade/comm/detail/shared_world.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/channel.h"
#include "colonnade/comm/detail/meeting.h"
#include "colonnade/comm/detail/watch.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::detail {

/// What a group's threads share: the meeting and the buffers of all, and one
/// meeting for each pair of ranks that send to each other, made at first use.
struct SharedGroup {
  std::string name;
  std::unique_ptr<Meeting> all;
  std::unique_ptr<Channel::Line[]> buffers;  ///< Of `all`, unwritten.
  /// By sender and receiver, ranks in the group.
  std::map<std::pair<int, int>, std::unique_ptr<Meeting>> pairs;
};

/// What the ranks of a world of threads share: who failed, who left, who waits
/// where, who rests, and the groups. Everything but `patience`, `timeout` and
/// the number of the call is behind one mutex, which no collective takes unless
/// it must sleep or fail.
class SharedWorld final : public Watch {
 public:
  SharedWorld(int size, std::chrono::milliseconds default_timeout);

  const int size;
  const std::chrono::milliseconds timeout;  ///< What groups start with.

  /// The group that `rank`'s call of make_group is a part of.
  std::shared_ptr<SharedGroup> join(int rank, const std::string& name,
                                    const std::vector<int64_t>& ranks);
  /// The meeting for sends of `src` to `dst`, ranks in the group.
  Meeting& pair(SharedGroup& group, int src, int dst);

  /// Throws why the world has failed, if it has.
  void check_alive() const;
  void fail(std::string_view reason) noexcept override;
  /// Rank `rank` comes to no meeting any more.
  void leave(int rank) noexcept;
  /// Makes what `rest` noted void. No rank is in the call yet.
  void begin_call(uint64_t call) noexcept {
    call_.store(call, std::memory_order_relaxed);
  }
  /// Notes that `rank` has returned from `call`, and fails the world where
  /// another waits for it.
  void rest(int rank, uint64_t call) noexcept;
  [[noreturn]] void throw_reason(const Meeting& meeting, int rank,
                                 uint64_t round, const Call& call) override;

  /// Fails the world where `rank` waits in a circle or for a rank that rests.
  void block(int rank, const Meeting& meeting, uint64_t round,
             const Call& call) override;
  void unblock(int rank) noexcept override;
  std::chrono::nanoseconds look(const Meeting&) override {
    return std::chrono::seconds(10);  // threads are not lost
  }
  std::string absent(const Meeting& meeting, uint64_t round) const override;

 private:
  struct Waiting {
    const Meeting* meeting = nullptr;  ///< Null: not waiting.
    uint64_t round = 0;
    Call call;
  };
  struct Entry {
    std::vector<size_t> joins;  ///< By world rank: how often it made it.
    std::vector<std::shared_ptr<SharedGroup>> groups;  ///< Null once all came.
  };

  void fail_locked(std::string_view reason) noexcept;
  void shut_if_dead(Meeting& meeting) noexcept;
  void shut_dead() noexcept;
  std::string circle() const;
  bool rests(int64_t rank) const;
  std::string in_vain(int rank) const;
  std::string where(int rank) const;

  mutable std::mutex mutex_;
  std::string reason_;
  bool failed_ = false;
  std::vector<bool> left_;
  std::vector<Waiting> waiting_;
  std::vector<uint64_t> returned_from_;  ///< The call, by rank.
  std::map<std::pair<std::string, std::vector<int64_t>>, Entry> entries_;
  std::vector<std::weak_ptr<SharedGroup>> groups_;
  // Written in every call, so apart from what collectives read.
  alignas(64) std::atomic<uint64_t> call_{0};
};

}  // namespace colonnade::detail
