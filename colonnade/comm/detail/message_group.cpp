// colonnade/comm/detail/message_group.cpp
#include "colonnade/comm/detail/message_group.h"

#include "colonnade/comm/detail/meeting.h"
#include "colonnade/comm/detail/mesh.h"
#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/comm/detail/reduce_kernels.h"
#include "colonnade/comm/detail/slices.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

using Clock = Mesh::Clock;

/// What a rank sends to each other at the start of a call.
struct Hello {
  /// Up to here a tensor goes along; larger ones follow when all agree.
  static constexpr size_t kPayloadBytes = 2048;

  CallKey key;
  std::array<int64_t, Call::kMaxDims> sizes{};
  CallSite site;
  std::byte payload[kPayloadBytes];

  Call call() const { return {key, sizes, site}; }
};
static_assert(std::is_trivially_copyable_v<Hello>);

/// Elements [begin, end) of a tensor: the part of one rank.
struct Slice {
  int64_t begin;
  int64_t end;
  size_t item;  ///< Bytes of an element.

  size_t offset() const { return static_cast<size_t>(begin) * item; }
  size_t bytes() const { return static_cast<size_t>(end - begin) * item; }
};

class MessageGroup final : public Group {
 public:
  MessageGroup(std::shared_ptr<MessageWorld> world, std::string name, int rank,
               std::vector<int64_t> ranks)
      : Group(std::move(name), rank, std::move(ranks), {at::kCPU}),
        world_(std::move(world)),
        tag_(world_->new_tag(this->name(), this->ranks())),
        hellos_(static_cast<size_t>(size())),
        pair_calls_(static_cast<size_t>(size())),
        ins_(static_cast<size_t>(size())) {
    set_timeout(world_->timeout);
  }

 private:
  std::string text() const { return concat("group \"", name(), "\""); }
  int64_t world_rank(int member) const {
    return ranks()[static_cast<size_t>(member)];
  }
  Hello& hello(int member) { return hellos_[static_cast<size_t>(member)]; }

  // Messages: posted one by one, then all waited for.

  void post_recv(std::byte* to, size_t bytes, int peer) {
    post(peer, bytes, [&](Mesh& mesh, int world_peer) {
      mesh.recv(to, bytes, world_peer, tag_);
    });
  }

  void post_send(const std::byte* from, size_t bytes, int peer) {
    post(peer, bytes, [&](Mesh& mesh, int world_peer) {
      mesh.send(from, bytes, world_peer, tag_);
    });
  }

  template <typename Start>
  void post(int peer, size_t bytes, Start start) {
    if (bytes == 0) {
      return;
    }
    try {
      world_->start(
          [&](Mesh& mesh) { start(mesh, static_cast<int>(world_rank(peer))); });
    } catch (const CommError&) {
      throw;
    } catch (const std::exception& error) {
      fail_since_gone(world_rank(peer), error.what());
    }
  }

  void begin(uint64_t number) {
    world_->check_alive();
    number_ = number;
    deadline_ = timeout().count() < 0 ? Clock::time_point::max()
                                      : Clock::now() + timeout();
  }

  void finish() {
    const Mesh::Outcome outcome = world_->wait(deadline_);
    switch (outcome.kind) {
      case Mesh::Outcome::Kind::kDone:
        return;
      case Mesh::Outcome::Kind::kLate:
        world_->fail_and_throw(concat(
            "rank ", world_->rank, " waited ", timeout().count(), " ms in ",
            to_string(call()), ", call ", number_, " of ", text(), ", for ",
            rank_list({outcome.peers.begin(), outcome.peers.end()}),
            ", which did not come"));
      case Mesh::Outcome::Kind::kGone:
        fail_since_gone(outcome.peers.front());
      case Mesh::Outcome::Kind::kSilent:
        world_->fail_since_silent(outcome.peers.front());
      case Mesh::Outcome::Kind::kInterrupted:
        world_->fail_since_lost();
      case Mesh::Outcome::Kind::kBroken:
        world_->fail_and_throw(concat(world_->backend(), ": rank ",
                                      world_->rank, " cannot go on in ",
                                      to_string(call()), ", call ", number_,
                                      " of ", text(), ": ", outcome.text));
    }
  }

  [[noreturn]] void fail_since_gone(int64_t peer, std::string_view why = {}) {
    world_->fail_since_gone(peer, call(), number_, text(), why);
  }

  // Meetings: all members, or sender and receiver, compare their calls.

  void write_hello(const std::byte* x, size_t bytes) {
    Hello& mine = hello(rank());
    mine.key = call().key;
    mine.sizes = call().sizes;
    mine.site = call().site;
    copy_bytes(mine.payload, x, bytes);
  }

  void post_hello(int peer) {
    post_recv(reinterpret_cast<std::byte*>(&hello(peer)), sizeof(Hello), peer);
    post_send(reinterpret_cast<const std::byte*>(&hello(rank())), sizeof(Hello),
              peer);
  }

  /// Returns when all members made this call. Brings the `bytes` at `x` along
  /// where they are few: then `ins_` is where each rank's are.
  ///
  /// Returns  whether they are few
  bool meet(const std::byte* x, size_t bytes) {
    begin(++calls_);
    const bool few = bytes <= Hello::kPayloadBytes;
    write_hello(x, few ? bytes : 0);
    for (int i = 1; i < size(); ++i) {
      post_hello((rank() + i) % size());
    }
    finish();
    const CallKey& key = call().key;
    if (!std::all_of(hellos_.begin(), hellos_.end(),
                     [&](const Hello& h) { return h.key == key; })) {
      std::vector<int> members(static_cast<size_t>(size()));
      std::iota(members.begin(), members.end(), 0);
      world_->fail_and_throw(disagreement_of(members, /*pair=*/false));
    }
    for (size_t i = 0; i < ins_.size(); ++i) {
      ins_[i] = hellos_[i].payload;
    }
    return few;
  }

  /// As `meet`, of a sender and the receiver of its `bytes` at `x`.
  bool meet_pair(int peer, const std::byte* x, size_t bytes) {
    begin(++pair_calls_[static_cast<size_t>(peer)]);
    const bool few = bytes <= Hello::kPayloadBytes;
    write_hello(x, few && x != nullptr ? bytes : 0);
    post_hello(peer);
    finish();
    compare_with(peer);
    return few;
  }

  void compare_with(int peer) {
    const Call mine = call();
    const Call theirs = hello(peer).call();
    CallKey want = mine.key;
    want.peer = rank();
    if (theirs.key == want) {  // both send, or both receive
      world_->fail_and_throw(
          concat("ranks wait for each other: ", where(std::min(rank(), peer)),
                 "; ", where(std::max(rank(), peer)),
                 "; all ranks must make the same calls in the same order"));
    }
    want.collective = mine.key.collective == Collective::kSend
                          ? Collective::kRecv
                          : Collective::kSend;
    if (theirs.key == want) {
      return;
    }
    const bool are_pair = theirs.key.collective == Collective::kSend ||
                          theirs.key.collective == Collective::kRecv;
    world_->fail_and_throw(disagreement_of(
        mine.key.collective == Collective::kSend ? std::vector{rank(), peer}
                                                 : std::vector{peer, rank()},
        are_pair));
  }

  std::string where(int member) {
    return concat("rank ", world_rank(member), " waits in ",
                  to_string(hello(member).call()), ", call ", number_, " of ",
                  text());
  }

  std::string disagreement_of(const std::vector<int>& members, bool pair) {
    std::vector<int64_t> world_ranks;
    for (const int member : members) {
      world_ranks.push_back(world_rank(member));
    }
    Meeting meeting(text(), std::move(world_ranks), pair);
    for (size_t i = 0; i < members.size(); ++i) {
      Slot& slot = meeting.slot(static_cast<int>(i), number_ - 1);
      slot.key = hello(members[i]).key;
      slot.sizes = hello(members[i]).sizes;
      slot.site = hello(members[i]).site;
    }
    return disagreement(meeting, number_ - 1);
  }

  // Larger tensors: each rank's slices go to the ranks whose they are.

  Slice slice(const at::Tensor& x, int member) const {
    return {x.numel() * member / size(), x.numel() * (member + 1) / size(),
            static_cast<size_t>(x.element_size())};
  }

  /// Sends every other rank its slice of `x`, and receives theirs of this
  /// rank's slice: `ins_` is then where each rank's slice of this rank is.
  void exchange_slices(const at::Tensor& x) {
    const Slice mine = slice(x, rank());
    const size_t bytes = mine.bytes();
    if (scratch_.size() < bytes * hellos_.size()) {
      scratch_.resize(bytes * hellos_.size());
    }
    for (int i = 1; i < size(); ++i) {
      const int peer = (rank() + i) % size();
      std::byte* const place =
          scratch_.data() + bytes * static_cast<size_t>(peer);
      ins_[static_cast<size_t>(peer)] = place;
      post_recv(place, bytes, peer);
      const Slice theirs = slice(x, peer);
      post_send(bytes_of(x) + theirs.offset(), theirs.bytes(), peer);
    }
    ins_[static_cast<size_t>(rank())] = bytes_of(x) + mine.offset();
    finish();
  }

  /// Gives every other rank this one's slice of `x`, and takes theirs. No rank
  /// needs its slice where it is `root`, which has all.
  void gather_slices(at::Tensor& x, int root = -1) {
    std::byte* const data = bytes_of(x);
    const Slice mine = slice(x, rank());
    for (int i = 1; i < size(); ++i) {
      const int peer = (rank() + i) % size();
      const Slice theirs = slice(x, peer);
      if (rank() != root) {
        post_recv(data + theirs.offset(), theirs.bytes(), peer);
      }
      if (peer != root) {
        post_send(data + mine.offset(), mine.bytes(), peer);
      }
    }
    finish();
  }

  void do_all_reduce(at::Tensor& x, ReduceOp op) override {
    std::byte* const data = bytes_of(x);
    if (meet(data, x.nbytes())) {
      reduce(x.scalar_type(), op, {&data, 1}, ins_, 0, x.numel());
      return;
    }
    exchange_slices(x);
    const Slice mine = slice(x, rank());
    std::byte* const out = data + mine.offset();
    reduce(x.scalar_type(), op, {&out, 1}, ins_, 0, mine.end - mine.begin);
    gather_slices(x);
  }

  void do_all_gather(at::Tensor& out, const at::Tensor& x) override {
    const size_t bytes = x.nbytes();
    const bool few = meet(bytes_of(x), bytes);
    std::byte* const to = bytes_of(out);
    std::byte* const own = to + static_cast<size_t>(rank()) * bytes;
    if (own != bytes_of(x)) {  // x may be its own part of out
      copy_bytes(own, bytes_of(x), bytes);
    }
    for (int i = 1; i < size(); ++i) {
      const int peer = (rank() + i) % size();
      std::byte* const part = to + static_cast<size_t>(peer) * bytes;
      if (few) {
        copy_bytes(part, hello(peer).payload, bytes);
      } else {
        post_recv(part, bytes, peer);
        post_send(bytes_of(x), bytes, peer);
      }
    }
    finish();
  }

  void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                         ReduceOp op) override {
    if (meet(bytes_of(x), x.nbytes())) {
      for (const std::byte*& in : ins_) {
        in += static_cast<size_t>(rank()) * out.nbytes();
      }
    } else {
      exchange_slices(x);
    }
    std::byte* const to = bytes_of(out);
    reduce(x.scalar_type(), op, {&to, 1}, ins_, 0, out.numel());
  }

  void do_broadcast(at::Tensor& x, int root) override {
    std::byte* const data = bytes_of(x);
    const bool brings = rank() == root;
    const bool few = x.nbytes() <= Hello::kPayloadBytes;
    meet(data, brings && few ? x.nbytes() : 0);
    if (few) {
      if (!brings) {
        copy_bytes(data, hello(root).payload, x.nbytes());
      }
      return;
    }
    // Each rank gets its slice from the root, then the others' from them: the
    // root sends two tensors, however many ranks there are.
    if (brings) {
      for (int i = 1; i < size(); ++i) {
        const int peer = (rank() + i) % size();
        const Slice theirs = slice(x, peer);
        post_send(data + theirs.offset(), theirs.bytes(), peer);
      }
    } else {
      const Slice mine = slice(x, rank());
      post_recv(data + mine.offset(), mine.bytes(), root);
    }
    finish();
    gather_slices(x, root);
  }

  void do_all_to_all(at::Tensor& out, const at::Tensor& x) override {
    const bool few = meet(bytes_of(x), x.nbytes());
    const size_t bytes = x.nbytes() / hellos_.size();
    const auto part_of = [&](int member) {
      return static_cast<size_t>(member) * bytes;
    };
    std::byte* const to = bytes_of(out);
    copy_bytes(to + part_of(rank()), bytes_of(x) + part_of(rank()), bytes);
    for (int i = 1; i < size(); ++i) {
      const int peer = (rank() + i) % size();
      if (few) {
        copy_bytes(to + part_of(peer), hello(peer).payload + part_of(rank()),
                   bytes);
      } else {
        post_recv(to + part_of(peer), bytes, peer);
        post_send(bytes_of(x) + part_of(peer), bytes, peer);
      }
    }
    finish();
  }

  void do_send(const at::Tensor& x, int dst) override {
    if (!meet_pair(dst, bytes_of(x), x.nbytes())) {
      post_send(bytes_of(x), x.nbytes(), dst);
      finish();
    }
  }

  void do_recv(at::Tensor& x, int src) override {
    if (meet_pair(src, nullptr, x.nbytes())) {
      copy_bytes(bytes_of(x), hello(src).payload, x.nbytes());
      return;
    }
    post_recv(bytes_of(x), x.nbytes(), src);
    finish();
  }

  void do_barrier() override { meet(nullptr, 0); }

  std::shared_ptr<MessageWorld> world_;
  uint32_t tag_;
  std::vector<Hello> hellos_;         // by rank
  std::vector<uint64_t> pair_calls_;  // by peer
  uint64_t calls_ = 0;
  uint64_t number_ = 0;  // of the call in progress
  Clock::time_point deadline_;
  std::vector<const std::byte*> ins_;  // by rank
  std::vector<std::byte> scratch_;     // the largest slices so far
};

}  // namespace

GroupPtr make_message_group(std::shared_ptr<MessageWorld> world,
                            std::string name, int rank,
                            std::vector<int64_t> ranks) {
  return c10::make_intrusive<MessageGroup>(std::move(world), std::move(name),
                                           rank, std::move(ranks));
}

}  // namespace colonnade::detail
