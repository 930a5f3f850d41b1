// colonnade/comm/detail/shm_group.cpp
#include "colonnade/comm/detail/shm_group.h"

#include "colonnade/comm/detail/reduce_kernels.h"
#include "colonnade/comm/detail/shm_channel.h"
#include "colonnade/comm/detail/slices.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>

namespace colonnade::detail {
namespace {

// Stays in the caches of two cores while it passes: 1 MiB takes 44 us, and 86
// in one chunk. Reading the peer's memory with process_vm_readv takes twice as
// long as both copies.
constexpr size_t kChunkBytes = size_t{128} << 10;
/// Up to here every rank combines all of an all_reduce: one gate, not two. Two
/// ranks always do: each takes as much from the other either way.
constexpr size_t kOneShotBytes = size_t{16} << 10;

using Buffers = std::vector<std::byte*>;

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

std::byte* bytes_of(at::Tensor& x) {
  return static_cast<std::byte*>(x.mutable_data_ptr());
}

const std::byte* bytes_of(const at::Tensor& x) {
  return static_cast<const std::byte*>(x.const_data_ptr());
}

/// What is in a group's memory, one after the other.
struct Layout {
  size_t size;

  using PairNumber = std::atomic<uint32_t>;

  /// By sender, then receiver: the number of their record, + 1.
  static constexpr size_t kPairNumbers = 0;
  size_t all() const { return lines(size * size * sizeof(PairNumber)); }
  size_t pair(size_t src, size_t dst) const {
    return all() + ShmChannel::bytes(static_cast<int>(size), kChunkBytes) +
           (src * size + dst) * ShmChannel::bytes(2, kChunkBytes);
  }
  size_t end() const { return pair(size, 0); }

  static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }
};

class ShmGroup final : public Group {
 public:
  ShmGroup(std::shared_ptr<ShmWatch> watch, ShmWatch::Opened opened,
           std::string text, std::string name, int rank,
           std::vector<int64_t> ranks)
      : Group(std::move(name), rank, std::move(ranks), {at::kCPU}),
        watch_(std::move(watch)),
        memory_(std::move(opened.memory)),
        layout_{static_cast<size_t>(size())},
        text_(std::move(text)),
        all_(*watch_, text_, opened.number, rank,
             memory_.data() + layout_.all(), kChunkBytes),
        senders_(static_cast<size_t>(size())),
        receivers_(static_cast<size_t>(size())),
        ins_(static_cast<size_t>(size())) {
    set_timeout(watch_->timeout);
  }

 private:
  template <typename Write, typename Read>
  void exchange(ShmChannel& channel, size_t bytes, int64_t chunks, Write write,
                Read read) {
    channel.exchange(call(), timeout(), bytes <= Slot::kPayloadBytes, chunks,
                     write, read);
  }

  size_t member() const { return static_cast<size_t>(rank()); }

  void do_all_reduce(at::Tensor& x, ReduceOp op) override {
    const size_t bytes = x.nbytes();
    std::byte* const data = bytes_of(x);
    const int64_t item = static_cast<int64_t>(x.element_size());
    const Chunks chunks{bytes, kChunkBytes};
    if (bytes <= kOneShotBytes || size() == 2) {
      exchange(
          all_, bytes, chunks.count(),
          [&](int64_t k, std::byte* mine) {
            copy_bytes(mine, data + chunks.begin(k), chunks.length(k));
          },
          [&](int64_t k, const Buffers& of) {
            std::byte* const to = data + chunks.begin(k);
            std::copy(of.begin(), of.end(), ins_.begin());
            ins_[member()] = to;
            reduce(x.scalar_type(), op, {&to, 1}, ins_, 0,
                   static_cast<int64_t>(chunks.length(k)) / item);
          });
      return;
    }
    // Each rank combines one slice of a chunk, and all copy the others'.
    const auto slice = [&](int64_t k, int i) {
      const auto n = static_cast<int64_t>(chunks.length(k)) / item;
      return slice_begin(n, size(), i, item);
    };
    all_.exchange_twice(
        call(), timeout(), chunks.count(),
        [&](int64_t k, std::byte* mine) {
          const auto begin = static_cast<size_t>(slice(k, rank()) * item);
          const auto end = static_cast<size_t>(slice(k, rank() + 1) * item);
          const std::byte* const from = data + chunks.begin(k);
          copy_bytes(mine, from, begin);
          copy_bytes(mine + end, from + end, chunks.length(k) - end);
        },
        [&](int64_t k, std::byte* mine, const Buffers& of) {
          std::byte* const to = data + chunks.begin(k);
          std::copy(of.begin(), of.end(), ins_.begin());
          ins_[member()] = to;
          const std::array<std::byte*, 2> outs{to, mine};
          reduce(x.scalar_type(), op, outs, ins_, slice(k, rank()),
                 slice(k, rank() + 1));
        },
        [&](int64_t k, const Buffers& of) {
          for (int i = 0; i < size(); ++i) {
            const auto begin = static_cast<size_t>(slice(k, i) * item);
            const auto end = static_cast<size_t>(slice(k, i + 1) * item);
            if (i != rank()) {
              copy_bytes(data + chunks.begin(k) + begin,
                         of[static_cast<size_t>(i)] + begin, end - begin);
            }
          }
        });
  }

  void do_all_gather(at::Tensor& out, const at::Tensor& x) override {
    const Chunks chunks{x.nbytes(), kChunkBytes};
    const std::byte* const from = bytes_of(x);
    std::byte* const to = bytes_of(out);
    exchange(
        all_, x.nbytes(), chunks.count(),
        [&](int64_t k, std::byte* mine) {
          copy_bytes(mine, from + chunks.begin(k), chunks.length(k));
        },
        [&](int64_t k, const Buffers& of) {
          for (size_t i = 0; i < of.size(); ++i) {
            std::byte* const part = to + i * x.nbytes();
            if (i != member()) {
              copy_bytes(part + chunks.begin(k), of[i], chunks.length(k));
            } else if (part != from) {  // x may be its own part of out
              copy_bytes(part + chunks.begin(k), from + chunks.begin(k),
                         chunks.length(k));
            }
          }
        });
  }

  /// Exchanges the size() parts of `x`, a piece of each at a time: `read(k,
  /// begin, length, of)` has those for this rank, `of[i]` from rank i, which
  /// begin at byte `begin` of the part.
  template <typename Read>
  void exchange_parts(const at::Tensor& x, Read read) {
    const auto parts = static_cast<size_t>(size());
    const size_t part_bytes = x.nbytes() / parts;
    const Chunks pieces{part_bytes, kChunkBytes / parts / 64 * 64};
    const std::byte* const from = bytes_of(x);
    // In a slot the parts lie as in x.
    const bool small = x.nbytes() <= Slot::kPayloadBytes;
    const size_t stride = small ? part_bytes : pieces.chunk_bytes;
    exchange(
        all_, x.nbytes(), pieces.count(),
        [&](int64_t k, std::byte* mine) {
          for (size_t i = 0; i < parts; ++i) {
            if (i != member()) {
              copy_bytes(mine + i * stride,
                         from + i * part_bytes + pieces.begin(k),
                         pieces.length(k));
            }
          }
        },
        [&](int64_t k, const Buffers& of) {
          for (size_t i = 0; i < parts; ++i) {
            ins_[i] = of[i] + member() * stride;
          }
          ins_[member()] = from + member() * part_bytes + pieces.begin(k);
          read(pieces.begin(k), pieces.length(k));
        });
  }

  void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                         ReduceOp op) override {
    std::byte* const data = bytes_of(out);
    exchange_parts(x, [&](size_t begin, size_t length) {
      std::byte* const to = data + begin;
      reduce(x.scalar_type(), op, {&to, 1}, ins_, 0,
             static_cast<int64_t>(length / x.element_size()));
    });
  }

  void do_all_to_all(at::Tensor& out, const at::Tensor& x) override {
    std::byte* const data = bytes_of(out);
    const size_t part_bytes = x.nbytes() / static_cast<size_t>(size());
    exchange_parts(x, [&](size_t begin, size_t length) {
      for (size_t i = 0; i < ins_.size(); ++i) {
        copy_bytes(data + i * part_bytes + begin, ins_[i], length);
      }
    });
  }

  /// Passes `x` from one member of `channel` to the others.
  void pass_on(ShmChannel& channel, const std::byte* from, std::byte* to,
               size_t bytes, size_t source) {
    const Chunks chunks{bytes, channel.chunk_bytes()};
    exchange(
        channel, bytes, chunks.count(),
        [&](int64_t k, std::byte* mine) {
          if (from != nullptr) {
            copy_bytes(mine, from + chunks.begin(k), chunks.length(k));
          }
        },
        [&](int64_t k, const Buffers& of) {
          if (to != nullptr) {
            copy_bytes(to + chunks.begin(k), of[source], chunks.length(k));
          }
        });
  }

  void do_broadcast(at::Tensor& x, int root) override {
    std::byte* const data = bytes_of(x);
    const bool gives = rank() == root;
    pass_on(all_, gives ? data : nullptr, gives ? nullptr : data, x.nbytes(),
            static_cast<size_t>(root));
  }

  /// The channel at `channels[peer]`, made at first use.
  ShmChannel& pair(std::vector<std::unique_ptr<ShmChannel>>& channels, int peer,
                   int src, int dst) {
    std::unique_ptr<ShmChannel>& channel = channels[static_cast<size_t>(peer)];
    if (channel == nullptr) {
      auto* const numbers = reinterpret_cast<Layout::PairNumber*>(
          memory_.data() + Layout::kPairNumbers);
      Layout::PairNumber& number = numbers[src * size() + dst];
      uint32_t known = number.load();
      if (known == 0) {
        const uint32_t made =
            1 + watch_->new_pair(text_, ranks()[static_cast<size_t>(src)],
                                 ranks()[static_cast<size_t>(dst)]);
        if (number.compare_exchange_strong(known, made)) {  // or the peer did
          known = made;
        }
      }
      channel = std::make_unique<ShmChannel>(
          *watch_, text_, known - 1, rank() == src ? 0 : 1,
          memory_.data() +
              layout_.pair(static_cast<size_t>(src), static_cast<size_t>(dst)),
          kChunkBytes);
    }
    return *channel;
  }

  void do_send(const at::Tensor& x, int dst) override {
    pass_on(pair(senders_, dst, rank(), dst), bytes_of(x), nullptr, x.nbytes(),
            0);
  }

  void do_recv(at::Tensor& x, int src) override {
    pass_on(pair(receivers_, src, src, rank()), nullptr, bytes_of(x),
            x.nbytes(), 0);
  }

  void do_barrier() override {
    exchange(
        all_, 0, 1, [](int64_t, std::byte*) {}, [](int64_t, const Buffers&) {});
  }

  std::shared_ptr<ShmWatch> watch_;
  ShmMemory memory_;
  Layout layout_;
  std::string text_;  // 'group "tp"'
  ShmChannel all_;
  std::vector<std::unique_ptr<ShmChannel>> senders_;    // by receiver
  std::vector<std::unique_ptr<ShmChannel>> receivers_;  // by sender
  std::vector<const std::byte*> ins_;                   // by rank
};

}  // namespace

GroupPtr make_shm_group(std::shared_ptr<ShmWatch> watch, std::string name,
                        std::vector<int64_t> ranks) {
  const std::string text = concat("group \"", name, "\"");
  const auto place = std::find(ranks.begin(), ranks.end(), watch->rank);
  const int rank = static_cast<int>(place - ranks.begin());
  ShmWatch::Opened opened =
      watch->open_group(text, ranks, Layout{ranks.size()}.end());
  return c10::make_intrusive<ShmGroup>(std::move(watch), std::move(opened),
                                       text, std::move(name), rank,
                                       std::move(ranks));
}

}  // namespace colonnade::detail
