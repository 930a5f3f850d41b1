// colonnade/comm/detail/mesh.h
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// Messages between every two processes of a world, in order among those of a
/// tag between two ranks: what a message-passing library brings, and all that
/// groups are built on. One thread uses it at a time, but for `interrupt`.
///
/// A message must be taken with the size with which it was sent. What it reads
/// or writes must live until `wait` returns, or the mesh is ended.
class Mesh {
 public:
  using Clock = std::chrono::steady_clock;

  /// How waiting for messages ended.
  struct Outcome {
    enum class Kind {
      kDone,         ///< All are complete.
      kLate,         ///< The deadline is over; `peers` have not come.
      kGone,         ///< The one of `peers` ended, or closed its connection.
      kSilent,       ///< Nothing is heard of the host of the one of `peers`.
      kBroken,       ///< The library below reports the error `text`.
      kInterrupted,  ///< By `interrupt`.
    };
    Kind kind = Kind::kDone;
    std::vector<int> peers = {};  ///< Ascending, each once.
    std::string text = {};
  };

  virtual ~Mesh() = default;

  /// The name of the backend, as in the backend table.
  virtual std::string_view backend() const = 0;
  /// How many tags there are, from 0.
  virtual uint32_t tags() const = 0;

  virtual bool is_open() const = 0;
  /// Ends it, at the end of the world; nothing is under way.
  virtual void close() noexcept = 0;
  /// Ends it, and gives up what is under way.
  virtual void abandon() noexcept = 0;

  /// Start a message, for `wait`. Throw where the peer is seen to be gone.
  virtual void send(const void* from, size_t bytes, int peer, uint32_t tag) = 0;
  virtual void recv(void* to, size_t bytes, int peer, uint32_t tag) = 0;

  /// Waits for all messages that were started since the last time it was done.
  /// After another outcome the mesh can only be abandoned.
  virtual Outcome wait(Clock::time_point deadline) = 0;
  /// After kGone: one that `wait` would find silent, if it waited for all until
  /// `deadline`. A peer that found so first may be the one that is gone.
  virtual std::optional<int> find_silent(Clock::time_point /*deadline*/) {
    return std::nullopt;
  }
  /// From any thread: ends the wait in progress, or the next one.
  virtual void interrupt() noexcept = 0;
};

}  // namespace colonnade::detail
