// colonnade/comm/detail/channel_group.cpp
#include "colonnade/comm/detail/channel_group.h"

#include "colonnade/comm/detail/reduce_kernels.h"
#include "colonnade/comm/detail/slices.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <utility>

namespace colonnade::detail {
namespace {

/// Up to here every rank combines all of an all_reduce: one gate, not two. Two
/// ranks always do: each takes as much from the other either way.
constexpr size_t kOneShotBytes = size_t{16} << 10;

using Buffers = std::vector<std::byte*>;

}  // namespace

ChannelGroup::ChannelGroup(std::string name, int rank,
                           std::vector<int64_t> ranks,
                           std::unique_ptr<Channel> channel)
    : Group(std::move(name), rank, std::move(ranks), {at::kCPU}),
      channel_(std::move(channel)),
      ins_(static_cast<size_t>(size())) {}

template <typename Write, typename Read>
void ChannelGroup::exchange(Channel& channel, size_t bytes, int64_t chunks,
                            Write write, Read read, const void* lies) {
  channel.exchange(call(), timeout(), bytes <= Slot::kPayloadBytes, chunks,
                   write, read, lies);
}

void ChannelGroup::do_all_reduce(at::Tensor& x, ReduceOp op) {
  const size_t bytes = x.nbytes();
  std::byte* const data = bytes_of(x);
  const int64_t item = static_cast<int64_t>(x.element_size());
  const Chunks chunks{bytes, Channel::kChunkBytes};
  if (bytes <= kOneShotBytes || size() == 2) {
    exchange(
        *channel_, bytes, chunks.count(),
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
  channel_->exchange_twice(
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

void ChannelGroup::do_all_gather(at::Tensor& out, const at::Tensor& x) {
  const Chunks chunks{x.nbytes(), Channel::kChunkBytes};
  const std::byte* const from = bytes_of(x);
  std::byte* const to = bytes_of(out);
  exchange(
      *channel_, x.nbytes(), chunks.count(),
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

/// Exchanges the size() parts of `x`, a piece of each at a time: at
/// `read(begin, length)`, `ins_[i]` is rank i's piece for this rank, bytes
/// `begin` to `begin` + `length` of the part.
template <typename Read>
void ChannelGroup::exchange_parts(const at::Tensor& x, Read read) {
  const auto parts = static_cast<size_t>(size());
  const size_t part_bytes = x.nbytes() / parts;
  const Chunks pieces{part_bytes, Channel::piece_bytes(parts)};
  const std::byte* const from = bytes_of(x);
  // In a slot the parts lie as in x.
  const bool small = x.nbytes() <= Slot::kPayloadBytes;
  const size_t stride = small ? part_bytes : pieces.chunk_bytes;
  exchange(
      *channel_, x.nbytes(), pieces.count(),
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

void ChannelGroup::do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                                     ReduceOp op) {
  std::byte* const data = bytes_of(out);
  exchange_parts(x, [&](size_t begin, size_t length) {
    std::byte* const to = data + begin;
    reduce(x.scalar_type(), op, {&to, 1}, ins_, 0,
           static_cast<int64_t>(length / x.element_size()));
  });
}

void ChannelGroup::do_all_to_all(at::Tensor& out, const at::Tensor& x) {
  std::byte* const data = bytes_of(out);
  const size_t part_bytes = x.nbytes() / static_cast<size_t>(size());
  exchange_parts(x, [&](size_t begin, size_t length) {
    for (size_t i = 0; i < ins_.size(); ++i) {
      copy_bytes(data + i * part_bytes + begin, ins_[i], length);
    }
  });
}

void ChannelGroup::pass_on(Channel& channel, const std::byte* from,
                           std::byte* to, size_t bytes, size_t source) {
  const Chunks chunks{bytes, Channel::kChunkBytes};
  exchange(
      channel, bytes, chunks.count(),
      [&](int64_t k, std::byte* mine) {
        if (from != nullptr) {
          copy_bytes(mine, from + chunks.begin(k), chunks.length(k));
        }
      },
      [&](int64_t k, const Buffers& of) {
        if (to != nullptr && !channel.is_of(source, to)) {
          copy_bytes(to + chunks.begin(k), of[source], chunks.length(k));
        }
      },
      from != nullptr ? from : to);
}

void ChannelGroup::do_broadcast(at::Tensor& x, int root) {
  std::byte* const data = bytes_of(x);
  const bool gives = rank() == root;
  pass_on(*channel_, gives ? data : nullptr, gives ? nullptr : data, x.nbytes(),
          static_cast<size_t>(root));
}

void ChannelGroup::do_barrier() {
  exchange(
      *channel_, 0, 1, [](int64_t, std::byte*) {},
      [](int64_t, const Buffers&) {});
}

}  // namespace colonnade::detail
