// colonnade/comm/detail/channel.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/meeting.h"
#include "colonnade/comm/detail/watch.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace colonnade::detail {

/// How `bytes` are cut into chunks.
struct Chunks {
  size_t bytes;
  size_t chunk_bytes;

  /// At least one, so that ranks meet.
  int64_t count() const {
    return std::max<int64_t>(
        1, static_cast<int64_t>((bytes + chunk_bytes - 1) / chunk_bytes));
  }
  size_t begin(int64_t k) const { return static_cast<size_t>(k) * chunk_bytes; }
  size_t length(int64_t k) const {
    return std::min(chunk_bytes, bytes - begin(k));
  }
};

/// A meeting and the buffers, in memory of all members, through which they pass
/// what does not fit into a slot, chunk by chunk.
///
/// A member has three buffers, used in turn by chunk after chunk, from call to
/// call. Whoever writes one has come through two gates since the chunk that was
/// in it before was complete: by then everyone has read that.
class Channel {
 public:
  static constexpr int kBuffers = 3;
  /// Stays in the caches of two cores while it passes: in one chunk, 1 MiB
  /// takes twice as long between processes. Reading the peer's memory with
  /// process_vm_readv takes twice as long as both copies.
  static constexpr size_t kChunkBytes = size_t{128} << 10;

  /// How many parts, one for each member, a buffer can have pieces of, which
  /// are whole cache lines. Those of more pass in slots alone.
  static constexpr size_t kMostParts = kChunkBytes / 64;
  static constexpr size_t piece_bytes(size_t parts) {
    return std::max(kMostParts / parts, size_t{1}) * 64;
  }

  struct alignas(64) Line {
    std::byte bytes[64];
  };

  /// buffers  `buffer_bytes` of all members
  Channel(Watch& watch, std::shared_ptr<Meeting> meeting, int member,
          std::byte* buffers);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  static constexpr size_t buffer_bytes(size_t members) {
    return members * kBuffers * kChunkBytes;
  }

  int size() const { return seat_.size(); }

  /// Whether `member` brought the tensor at `x` itself to this call.
  bool is_of(size_t member, const void* x) const {
    return watch_.one_process && seat_.slot(static_cast<int>(member)).in == x;
  }

  /// The member's place, for calls that need no buffer.
  Seat& seat() { return seat_; }

  /// Passes `chunks` chunks: `write(k, mine)` puts chunk k into this member's
  /// buffer, and `read(k, of)` takes it from `of[i]`, member i's.
  ///
  /// small  whether the one chunk is of Slot::kPayloadBytes or less
  /// lies   where the tensor lies, for members in this process to compare
  template <typename Write, typename Read>
  void exchange(const Call& call, std::chrono::milliseconds timeout, bool small,
                int64_t chunks, Write write, Read read,
                const void* lies = nullptr) {
    const Visit visit(*this, call);
    for (int64_t k = 0; k <= chunks; ++k) {
      if (k < chunks) {
        write(k, small ? seat_.payload() : buffer(member_, k));
      }
      if (k > 0) {
        read(k - 1, small ? payloads() : buffers(k - 1));
      }
      if (k < chunks) {
        gate(k, call, timeout, lies);
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
        gate(k, call, timeout, nullptr);
      }
    }
    next_ += static_cast<uint64_t>(chunks);
  }

 private:
  /// Others see that this rank is in a call.
  class Visit {
   public:
    Visit(Channel& channel, const Call& call) : watch_(channel.watch_) {
      watch_.begin(*channel.meeting_, channel.seat_.round(), call);
    }
    ~Visit() { watch_.end(); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    Watch& watch_;
  };

  void gate(int64_t k, const Call& call, std::chrono::milliseconds timeout,
            const void* lies) {
    if (k == 0) {
      seat_.meet(call, lies, nullptr, timeout);
    } else if (watch_.one_process) {
      seat_.part();
    } else {
      watch_.next_gate();
      seat_.pass(call, timeout);
    }
  }

  std::byte* buffer(int member, int64_t k) const {
    const uint64_t turn = (next_ + static_cast<uint64_t>(k)) % kBuffers;
    return buffers_ +
           (static_cast<size_t>(member) * kBuffers + turn) * kChunkBytes;
  }
  const std::vector<std::byte*>& buffers(int64_t k);
  const std::vector<std::byte*>& payloads();

  Watch& watch_;
  std::shared_ptr<Meeting> meeting_;
  Seat seat_;
  int member_;
  std::byte* buffers_;
  uint64_t next_ = 0;           // the buffer of the next call's first chunk
  std::vector<std::byte*> of_;  // by member, filled for `read`
};

}  // namespace colonnade::detail
