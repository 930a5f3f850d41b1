// colonnade/comm/detail/threads_backend.cpp
#include "colonnade/comm/detail/threads_backend.h"

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

std::byte* bytes_of(at::Tensor& x) {
  return static_cast<std::byte*>(x.mutable_data_ptr());
}

const std::byte* bytes_of(const at::Tensor& x) {
  return static_cast<const std::byte*>(x.const_data_ptr());
}

class ThreadsGroup final : public Group {
 public:
  ThreadsGroup(std::shared_ptr<SharedWorld> world,
               std::shared_ptr<SharedGroup> shared, std::string name, int rank,
               std::vector<int64_t> ranks)
      : Group(std::move(name), rank, std::move(ranks), {at::kCPU}),
        world_(std::move(world)),
        shared_(std::move(shared)),
        seat_(*world_, *shared_->all, rank),
        senders_(static_cast<size_t>(size())),
        receivers_(static_cast<size_t>(size())),
        ins_(static_cast<size_t>(size())),
        outs_(static_cast<size_t>(size())) {
    set_timeout(world_->timeout);
  }

 private:
  /// Meets with `bytes` at `x` open to the others, as a copy where it is small.
  /// Afterwards `ins_` is where each rank's are.
  ///
  /// Returns  whether they are lent, so that `part` must follow
  bool meet(const std::byte* x, size_t bytes, std::byte* out) {
    const bool lent = bytes > Slot::kPayloadBytes;
    if (!lent) {
      copy_bytes(seat_.payload(), x, bytes);
    }
    seat_.meet(call(), x, out, timeout());
    for (int i = 0; i < size(); ++i) {
      const Slot& slot = seat_.slot(i);
      ins_[static_cast<size_t>(i)] = lent ? slot.in : slot.payload;
      outs_[static_cast<size_t>(i)] = slot.out;
    }
    return lent;
  }

  void part_if(bool lent) {
    if (lent) {
      seat_.part();
    }
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
            to_string(call()), ", call ", seat_.round(), " of group \"", name(),
            "\"; each needs a tensor of its own");
        world_->fail(reason);
        throw CommError(reason);
      }
    }
  }

  void do_all_reduce(at::Tensor& x, ReduceOp op) override {
    std::byte* const mine = bytes_of(x);
    const bool lent = meet(mine, x.nbytes(), mine);
    refuse_shared_memory();
    if (!lent) {
      reduce(x.scalar_type(), op, {&mine, 1}, ins_, 0, x.numel());
      return;
    }
    // Each rank combines one slice of all and writes it to all.
    const int64_t item = static_cast<int64_t>(x.element_size());
    reduce(x.scalar_type(), op, outs_, ins_,
           slice_begin(x.numel(), size(), rank(), item),
           slice_begin(x.numel(), size(), rank() + 1, item));
    seat_.part();
  }

  void do_all_gather(at::Tensor& out, const at::Tensor& x) override {
    const size_t bytes = x.nbytes();
    const bool lent = meet(bytes_of(x), bytes, nullptr);
    std::byte* to = bytes_of(out);
    for (const std::byte* in : ins_) {
      if (in != to) {  // x may be its own part of out
        copy_bytes(to, in, bytes);
      }
      to += bytes;
    }
    part_if(lent);
  }

  void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                         ReduceOp op) override {
    const bool lent = meet(bytes_of(x), x.nbytes(), nullptr);
    for (const std::byte*& in : ins_) {
      in += static_cast<size_t>(rank()) * out.nbytes();
    }
    std::byte* const to = bytes_of(out);
    reduce(x.scalar_type(), op, {&to, 1}, ins_, 0, out.numel());
    part_if(lent);
  }

  void do_broadcast(at::Tensor& x, int root) override {
    std::byte* const mine = bytes_of(x);
    const bool lent = x.nbytes() > Slot::kPayloadBytes;
    if (rank() == root && !lent) {
      copy_bytes(seat_.payload(), mine, x.nbytes());
    }
    seat_.meet(call(), mine, nullptr, timeout());
    const Slot& source = seat_.slot(root);
    if (rank() != root && source.in != mine) {  // one tensor for all is fine
      copy_bytes(mine, lent ? source.in : source.payload, x.nbytes());
    }
    part_if(lent);
  }

  void do_all_to_all(at::Tensor& out, const at::Tensor& x) override {
    const bool lent = meet(bytes_of(x), x.nbytes(), nullptr);
    const size_t part = x.nbytes() / static_cast<size_t>(size());
    std::byte* to = bytes_of(out);
    for (const std::byte* in : ins_) {
      copy_bytes(to, in + static_cast<size_t>(rank()) * part, part);
      to += part;
    }
    part_if(lent);
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

  void do_barrier() override {
    seat_.meet(call(), nullptr, nullptr, timeout());
  }

  std::shared_ptr<SharedWorld> world_;
  std::shared_ptr<SharedGroup> shared_;
  Seat seat_;
  std::vector<std::unique_ptr<Seat>> senders_;    // by receiver
  std::vector<std::unique_ptr<Seat>> receivers_;  // by sender
  // By rank, filled by `meet`.
  std::vector<const std::byte*> ins_;
  std::vector<std::byte*> outs_;
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
