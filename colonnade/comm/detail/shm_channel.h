// colonnade/comm/detail/shm_channel.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/meeting.h"
#include "colonnade/comm/detail/shm_watch.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace colonnade::detail {

/// A meeting of processes and the buffers through which they pass what does not
/// fit into a slot, chunk by chunk.
///
/// A member has three buffers, used in turn by chunk after chunk, from call to
/// call. Whoever writes one has come through two gates since the chunk that was
/// in it before was complete: by then everyone has read that.
class ShmChannel {
 public:
  static constexpr int kBuffers = 3;

  /// memory  `bytes(members, chunk_bytes)` of them, zero at first
  ShmChannel(ShmWatch& watch, std::string name, uint32_t number, int member,
             std::byte* memory, size_t chunk_bytes);
  ShmChannel(const ShmChannel&) = delete;
  ShmChannel& operator=(const ShmChannel&) = delete;

  static size_t bytes(int members, size_t chunk_bytes);

  size_t chunk_bytes() const { return chunk_bytes_; }
  int size() const { return meeting_.size(); }

  /// Passes `chunks` chunks: `write(k, mine)` puts chunk k into this member's
  /// buffer, and `read(k, of)` takes it from `of[i]`, member i's.
  ///
  /// small  whether the one chunk is of Slot::kPayloadBytes or less
  template <typename Write, typename Read>
  void exchange(const Call& call, std::chrono::milliseconds timeout, bool small,
                int64_t chunks, Write write, Read read) {
    const Visit visit(*this, call);
    for (int64_t k = 0; k <= chunks; ++k) {
      if (k < chunks) {
        write(k, small ? seat_.payload() : buffer(member_, k));
      }
      if (k > 0) {
        read(k - 1, small ? payloads() : buffers(k - 1));
      }
      if (k < chunks) {
        gate(k, call, timeout);
      }
    }
    next_ += small ? 0 : static_cast<uint64_t>(chunks);
  }

  /// As `exchange`, with a step between: `combine(k, mine, of)` works on chunk
  /// k, and may write to the part of `mine` that nobody else takes in this
  /// step. `read` then sees what all have written.
  template <typename Write, typename Combine, typename Read>
  void exchange_twice(const Call& call, std::chrono::milliseconds timeout,
                      int64_t chunks, Write write, Combine combine, Read read) {
    const Visit visit(*this, call);
    for (int64_t k = 0; k <= chunks + 1; ++k) {
      if (k < chunks) {
        write(k, buffer(member_, k));
      }
      if (k > 0 && k <= chunks) {
        combine(k - 1, buffer(member_, k - 1), buffers(k - 1));
      }
      if (k > 1) {
        read(k - 2, buffers(k - 2));
      }
      if (k <= chunks) {
        gate(k, call, timeout);
      }
    }
    next_ += static_cast<uint64_t>(chunks);
  }

 private:
  /// Others see that this rank is in a call.
  class Visit {
   public:
    Visit(ShmChannel& channel, const Call& call) : watch_(channel.watch_) {
      watch_.begin(channel.meeting_, channel.seat_.round(), call);
    }
    ~Visit() { watch_.end(); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    ShmWatch& watch_;
  };

  void gate(int64_t k, const Call& call, std::chrono::milliseconds timeout) {
    if (k == 0) {
      seat_.meet(call, nullptr, nullptr, timeout);
    } else {
      watch_.next_gate();
      seat_.pass(call, timeout);
    }
  }

  std::byte* buffer(int member, int64_t k) const {
    const uint64_t turn = (next_ + static_cast<uint64_t>(k)) % kBuffers;
    return buffers_ +
           (static_cast<size_t>(member) * kBuffers + turn) * chunk_bytes_;
  }
  const std::vector<std::byte*>& buffers(int64_t k);
  const std::vector<std::byte*>& payloads();

  ShmWatch& watch_;
  ShmMeeting meeting_;
  Seat seat_;
  int member_;
  std::byte* buffers_;
  size_t chunk_bytes_;
  uint64_t next_ = 0;           // the buffer of the next call's first chunk
  std::vector<std::byte*> of_;  // by member, filled for `read`
};

}  // namespace colonnade::detail
