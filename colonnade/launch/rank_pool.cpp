// colonnade/launch/rank_pool.cpp
#include "colonnade/launch/rank_pool.h"

#include "colonnade/comm/detail/gate.h"
#include "colonnade/comm/detail/patience.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/detail/core_shares.h"
#include "colonnade/launch/detail/first_error.h"
#include "colonnade/launch/detail/intra_op_threads.h"
#include "colonnade/launch/detail/modes.h"
#include "colonnade/launch/detail/thread_rank.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using detail::Gate;

/// Lets those who lock it through one at a time, in the order in which they
/// came.
class Turns {
 public:
  void lock() {
    const uint64_t mine = next_.fetch_add(1, std::memory_order_relaxed);
    if (mine > 0) {
      // Soon asleep: the cores are for the ranks.
      wait(ended_, mine - 1, {.spin = {}, .yield = kYield});
    }
  }
  void unlock() { ended_.arrive(); }

 private:
  static constexpr std::chrono::microseconds kYield{100};

  std::atomic<uint64_t> next_{0};
  Gate ended_{1};
};

}  // namespace

class RankPool::Ranks {
 public:
  Ranks(int n, std::function<void()> setup, const LaunchOptions& options)
      : options_(options),
        setup_(std::move(setup)),
        contexts_(make_contexts(n)),
        cores_(n, options.pin),
        patience_(detail::patience_for(n)),
        done_(n - 1) {
    check_arg(
        setup_ != nullptr,
        "RankPool: setup is empty; give one that does nothing where there "
        "is nothing to set up");
    try {
      for (int rank = 1; rank < n; ++rank) {
        threads_.emplace_back([this, rank] { serve(rank); });
      }
    } catch (...) {  // no thread to be had
      end();
      throw;
    }
  }
  ~Ranks() { end(); }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  void run(c10::function_ref<void(int)> body) {
    check_arg(!detail::inside_rank(),
              "RankPool: run was called inside a rank; a rank cannot have "
              "ranks of its own, so call it from a thread that is none");
    const std::lock_guard turn(turns_);
    if (contexts_.empty()) {
      contexts_ = make_contexts(size());
    }
    if (!is_set_up_) {
      call([this](int) { setup_(); });
      is_set_up_ = true;
    }
    call(body);
  }

 private:
  std::vector<RankContextPtr> make_contexts(int n) const {
    std::vector<RankContextPtr> contexts;
    for (WorldPtr& world : detail::make_local_worlds("RankPool", n, options_)) {
      contexts.push_back(std::make_shared<RankContext>(std::move(world)));
    }
    return contexts;
  }

  /// One call, in the thread that is rank 0.
  void call(c10::function_ref<void(int)> body) {
    const WorldPtr& world = contexts_[0]->world();
    cores_.make_way();
    world->begin_call(calls_);
    body_ = body;
    modes_ = detail::Modes::of_this_thread();
    start_.arrive();
    run_rank(0);
    wait_after(calls_, *world, done_, calls_);
    ++calls_;
    if (first_error_.is_set()) {
      contexts_.clear();
      is_set_up_ = false;
      first_error_.rethrow_with_rank();
    }
  }

  /// The life of another rank's thread.
  void serve(int rank) {
    cores_.pin(rank);
    WorldPtr world;  // kept: after `done_`, the caller may drop the context
    Gate::State state = wait(start_, 0, patience_);
    for (uint64_t call = 0; state == Gate::State::kOpen; ++call) {
      {
        const detail::ModesScope modes(modes_);
        run_rank(rank);
      }
      const RankContext& context = *contexts_[static_cast<size_t>(rank)];
      if (world != context.world()) {
        world = context.world();
      }
      done_.arrive();
      state = wait_after(call, *world, start_, call + 1);
    }
  }

  /// Waits as `wait` does, in a rank that has returned from `call`.
  Gate::State wait_after(uint64_t call, World& world, Gate& gate,
                         uint64_t round) {
    Gate::State state = look_awake(gate, round, patience_);
    if (state == Gate::State::kWaiting) {
      world.rest(call);
      gate.sleep(round, std::chrono::seconds(10));
      state = wait(gate, round, patience_);
    }
    return state;
  }

  void run_rank(int rank) {
    const detail::IntraOpThreads intra_op(cores_.intra_op_threads());
    detail::run_rank(
        contexts_[static_cast<size_t>(rank)], [&] { body_(rank); },
        first_error_);
  }

  void end() {
    start_.shut();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

  const LaunchOptions options_;
  const std::function<void()> setup_;
  std::vector<RankContextPtr> contexts_;  // empty after a failure
  bool is_set_up_ = false;
  const detail::CoreShares cores_;
  const detail::Patience patience_;
  detail::FirstError first_error_;
  std::vector<std::thread> threads_;
  Turns turns_;

  Gate start_{1};  // opened by rank 0, once a call
  c10::function_ref<void(int)> body_;
  detail::Modes modes_{};
  uint64_t calls_ = 0;
  Gate done_;  // opened by all others
};

RankPool::RankPool(int n, std::function<void()> setup,
                   const LaunchOptions& options)
    : ranks_(std::make_unique<Ranks>(n, std::move(setup), options)) {}

RankPool::~RankPool() = default;

int RankPool::size() const {
  return ranks_->size();
}

void RankPool::run(c10::function_ref<void(int)> body) {
  ranks_->run(body);
}

}  // namespace colonnade
