// colonnade/comm/detail/message_world.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/heartbeat.h"
#include "colonnade/comm/detail/mesh.h"
#include "colonnade/comm/detail/peer_watch.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"
#include "colonnade/comm/rendezvous.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::detail {

/// What the groups of one process share: its mesh, why its world failed, and
/// the tags by which groups tell their messages apart. One thread uses it at a
/// time, but for `fail`.
///
/// A process that fails tells why at the rendezvous, then closes its mesh.
/// Whoever waits for it notices that, reads the reason, and fails for it in
/// turn, so that all ranks that wait for each other hear of it. A process that
/// can do neither is found by those of its host, or by its host's silence.
class MessageWorld {
 public:
  MessageWorld(const ProcessPlace& place, std::shared_ptr<ProcessFates> fates,
               std::unique_ptr<Mesh> mesh, std::shared_ptr<const Peers> peers,
               std::unique_ptr<Heartbeat> heartbeat);

  const int rank;
  const int size;
  const std::chrono::milliseconds timeout;  ///< What groups start with.

  std::string_view backend() const { return mesh_->backend(); }

  /// Starts a message, by `message(mesh)`, for `wait`. Throws what that throws,
  /// and CommError where the world has failed.
  template <typename Message>
  void start(Message message) {
    const std::lock_guard lock(using_mesh_);
    throw_if_failed();
    message(*mesh_);
  }
  /// `Mesh::wait`, while others look whether the peers still run.
  Mesh::Outcome wait(Mesh::Clock::time_point deadline);

  /// For a rank that waits for others in another way than by `wait`: throws
  /// where one of them is found to be lost.
  void look();
  /// Throws why the world failed, if it has.
  void check_alive();
  /// Records why, unless it has failed before, and closes the mesh. From any
  /// thread: a wait of another's ends first.
  void fail(std::string_view reason) noexcept;
  [[noreturn]] void fail_and_throw(std::string_view reason);
  /// The same, since `gone` (a world rank) ended, or closed its connection,
  /// while this rank waited for it in `call`, number `number` of the group
  /// `group`.
  ///
  /// why  what the mesh says of it: the reason, where nothing shows that the
  ///      peer is gone
  [[noreturn]] void fail_since_gone(int64_t gone, const Call& call,
                                    uint64_t number, const std::string& group,
                                    std::string_view why = {});
  /// Since `wait` was interrupted.
  [[noreturn]] void fail_since_lost();
  /// Since nothing is heard of the host of `silent` (a world rank).
  [[noreturn]] void fail_since_silent(int64_t silent);
  void leave() noexcept;

  /// Equal on the members of the group, of which each makes its first, second,
  /// … group of that name and those ranks with the others' first, second, ….
  uint32_t new_tag(const std::string& name, const std::vector<int64_t>& ranks);

 private:
  void throw_if_failed() const;
  /// What `gone` says became of it; nothing where it has ended without a word.
  std::optional<ProcessFates::Fate> wait_for_fate(int gone) const;
  std::optional<int> find_silent(Mesh::Clock::time_point end);

  std::shared_ptr<ProcessFates> fates_;
  /// Of whoever uses the mesh, but for `interrupt`. A message costs a thousand
  /// times as much.
  std::mutex using_mesh_;
  std::unique_ptr<Mesh> mesh_;
  std::shared_ptr<const Peers> peers_;
  PeerWatch watch_;
  bool is_looking_ = false;  ///< Since the last `wait`.
  int looks_ = 0;
  std::mutex failing_;
  std::atomic<bool> failed_ = false;  ///< Set after `reason_`.
  std::string reason_;
  std::map<std::pair<std::string, std::vector<int64_t>>, uint32_t> turns_;
  /// Who uses a tag, for it is a hash.
  std::map<uint32_t, std::vector<int64_t>> tags_;
};

}  // namespace colonnade::detail
