// colonnade/comm/detail/threads_backend.cpp
#include "colonnade/comm/detail/threads_backend.h"

#include "colonnade/comm/detail/channel.h"
#include "colonnade/comm/detail/channel_group.h"
#include "colonnade/comm/detail/meeting.h"
#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/reduce_kernels.h"
#include "colonnade/comm/detail/self_backend.h"
#include "colonnade/comm/detail/shared_world.h"
#include "colonnade/comm/detail/slices.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace colonnade::detail {
namespace {

/// Up to here tensors pass through the channel, whose buffers stay in caches.
/// Larger ones are lent, as all are in an all_reduce: others read them where
/// they lie. That is one copy less, but the owner then finds its memory in
/// caches of others when it next writes to it.
constexpr size_t kCopiedBytes = size_t{16} << 20;

class ThreadsGroup final : public ChannelGroup {
 public:
  ThreadsGroup(std::shared_ptr<SharedWorld> world,
               std::shared_ptr<SharedGroup> shared, std::string name, int rank,
               std::vector<int64_t> ranks)
      : ChannelGroup(
            std::move(name), rank, std::move(ranks),
            std::make_unique<Channel>(
                *world, std::shared_ptr<Meeting>(shared, shared->all.get()),
                rank, shared->buffers[0].bytes)),
        world_(std::move(world)),
        shared_(std::move(shared)),
        have_cores_(world_->patience.spin.count() > 0),
        senders_(static_cast<size_t>(size())),
        receivers_(static_cast<size_t>(size())),
        outs_(static_cast<size_t>(size())) {
    set_timeout(world_->timeout);
  }

 private:
  /// Meets with `x`, and `out` if any, open to the others until `part`.
  /// Afterwards `ins()` and `outs_` are where each rank's are.
  void lend(const std::byte* x, std::byte* out) {
    Seat& seat = channel().seat();
    seat.meet(call(), x, out, timeout());
    for (int i = 0; i < size(); ++i) {
      ins()[static_cast<size_t>(i)] = seat.slot(i).in;
      outs_[static_cast<size_t>(i)] = seat.slot(i).out;
    }
  }

  /// Whether to copy through the channel. Where ranks share cores, a chunk can
  /// cost a switch of threads: there only what is one chunk.
  bool copies(size_t bytes) const {
    const bool has_pieces = static_cast<size_t>(size()) <= Channel::kMostParts;
    const size_t most = !has_pieces   ? Slot::kPayloadBytes
                        : have_cores_ ? kCopiedBytes
                                      : Channel::kChunkBytes;
    return bytes <= most;
  }

  /// All members see the same pointers, so all throw or none.
  void refuse_shared_memory() {
    for (size_t i = 1; i < outs_.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (outs_[i] != outs_[j] || outs_[i] == nullptr) [[likely]] {
          continue;
        }
        const std::string reason = concat(
            rank_list({ranks()[j], ranks()[i]}), " gave the same memory to ",
            to_string(call()), ", call ", channel().seat().round(),
            " of group \"", name(), "\"; each needs a tensor of its own");
        world_->fail(reason);
        throw CommError(reason);
      }
    }
  }

  void do_all_reduce(at::Tensor& x, ReduceOp op) override {
    Seat& seat = channel().seat();
    std::byte* const mine = bytes_of(x);
    const bool small = x.nbytes() <= Slot::kPayloadBytes;
    if (small) {
      copy_bytes(seat.payload(), mine, x.nbytes());
    }
    lend(mine, mine);
    refuse_shared_memory();
    if (small) {
      for (int i = 0; i < size(); ++i) {
        ins()[static_cast<size_t>(i)] = seat.slot(i).payload;
      }
      reduce(x.scalar_type(), op, {&mine, 1}, ins(), 0, x.numel());
      return;
    }
    // Each rank combines one slice of all and writes it to all.
    const int64_t item = static_cast<int64_t>(x.element_size());
    reduce(x.scalar_type(), op, outs_, ins(),
           slice_begin(x.numel(), size(), rank(), item),
           slice_begin(x.numel(), size(), rank() + 1, item));
    seat.part();
  }

  void do_all_gather(at::Tensor& out, const at::Tensor& x) override {
    const size_t bytes = x.nbytes();
    if (copies(bytes)) {
      return ChannelGroup::do_all_gather(out, x);
    }
    lend(bytes_of(x), nullptr);
    std::byte* to = bytes_of(out);
    for (const std::byte* in : ins()) {
      if (in != to) {  // x may be its own part of out
        copy_bytes(to, in, bytes);
      }
      to += bytes;
    }
    channel().seat().part();
  }

  void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                         ReduceOp op) override {
    if (copies(x.nbytes())) {
      return ChannelGroup::do_reduce_scatter(out, x, op);
    }
    lend(bytes_of(x), nullptr);
    for (const std::byte*& in : ins()) {
      in += static_cast<size_t>(rank()) * out.nbytes();
    }
    std::byte* const to = bytes_of(out);
    reduce(x.scalar_type(), op, {&to, 1}, ins(), 0, out.numel());
    channel().seat().part();
  }

  void do_broadcast(at::Tensor& x, int root) override {
    if (copies(x.nbytes())) {
      return ChannelGroup::do_broadcast(x, root);
    }
    std::byte* const mine = bytes_of(x);
    lend(mine, nullptr);
    const std::byte* const from = ins()[static_cast<size_t>(root)];
    if (from != mine) {  // one tensor for all is fine
      copy_bytes(mine, from, x.nbytes());
    }
    channel().seat().part();
  }

  void do_all_to_all(at::Tensor& out, const at::Tensor& x) override {
    if (copies(x.nbytes())) {
      return ChannelGroup::do_all_to_all(out, x);
    }
    lend(bytes_of(x), nullptr);
    const size_t bytes = x.nbytes() / static_cast<size_t>(size());
    std::byte* to = bytes_of(out);
    for (const std::byte* in : ins()) {
      copy_bytes(to, in + static_cast<size_t>(rank()) * bytes, bytes);
      to += bytes;
    }
    channel().seat().part();
  }

  /// The seat at `seats[peer]`, taken at first use.
  Seat& pair_seat(std::vector<std::unique_ptr<Seat>>& seats, int peer, int src,
                  int dst) {
    std::unique_ptr<Seat>& seat = seats[static_cast<size_t>(peer)];
    if (seat == nullptr) {
      seat = std::make_unique<Seat>(*world_, world_->pair(*shared_, src, dst),
                                    rank() == src ? 0 : 1);
    }
    return *seat;
  }

  void do_send(const at::Tensor& x, int dst) override {
    Seat& seat = pair_seat(senders_, dst, rank(), dst);
    const bool lent = x.nbytes() > Slot::kPayloadBytes;
    if (!lent) {
      copy_bytes(seat.payload(), bytes_of(x), x.nbytes());
    }
    seat.meet(call(), bytes_of(x), nullptr, timeout());
    if (lent) {
      seat.part();
    }
  }

  void do_recv(at::Tensor& x, int src) override {
    Seat& seat = pair_seat(receivers_, src, src, rank());
    const bool lent = x.nbytes() > Slot::kPayloadBytes;
    seat.meet(call(), nullptr, nullptr, timeout());
    const Slot& slot = seat.slot(0);
    copy_bytes(bytes_of(x), lent ? slot.in : slot.payload, x.nbytes());
    if (lent) {
      seat.part();
    }
  }

  std::shared_ptr<SharedWorld> world_;
  std::shared_ptr<SharedGroup> shared_;
  bool have_cores_;
  std::vector<std::unique_ptr<Seat>> senders_;    // by receiver
  std::vector<std::unique_ptr<Seat>> receivers_;  // by sender
  std::vector<std::byte*> outs_;                  // by rank, filled by `lend`
};

class ThreadsWorld final : public World {
 public:
  ThreadsWorld(std::shared_ptr<SharedWorld> shared, int rank)
      : shared_(std::move(shared)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return shared_->size; }
  std::string_view backend() const override { return "threads"; }

  GroupPtr make_group(std::string name, std::vector<int64_t> ranks) override {
    check_ranks(name, ranks);
    if (ranks.size() == 1) {
      return make_self_group(std::move(name), rank_, shared_->timeout);
    }
    const auto place = std::find(ranks.begin(), ranks.end(), rank_);
    const int rank = static_cast<int>(place - ranks.begin());
    auto group = shared_->join(rank_, name, ranks);
    return c10::make_intrusive<ThreadsGroup>(
        shared_, std::move(group), std::move(name), rank, std::move(ranks));
  }

  void abort(std::string_view message) noexcept override {
    try {
      shared_->fail(concat("rank ", rank_, " failed: ", message));
    } catch (...) {  // no memory for the text
      shared_->fail("a rank failed");
    }
  }

  void look() override { shared_->check_alive(); }

  void leave() noexcept override { shared_->leave(rank_); }

  void begin_call(uint64_t call) noexcept override {
    shared_->begin_call(call);
  }

  void rest(uint64_t call) noexcept override { shared_->rest(rank_, call); }

 private:
  std::shared_ptr<SharedWorld> shared_;
  int rank_;
};

}  // namespace

std::vector<WorldPtr> make_thread_worlds(int size,
                                         std::chrono::milliseconds timeout) {
  check_arg(size >= 1, "threads: at least one rank, not ", size);
  auto shared = std::make_shared<SharedWorld>(size, timeout);
  std::vector<WorldPtr> worlds;
  for (int rank = 0; rank < size; ++rank) {
    worlds.push_back(std::make_shared<ThreadsWorld>(shared, rank));
  }
  return worlds;
}

}  // namespace colonnade::detail
