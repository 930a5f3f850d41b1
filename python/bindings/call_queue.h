// The calls of a group of torch.distributed, one after the other.
#pragma once

#include "colonnade/comm/group.h"

#include <torch/csrc/distributed/c10d/Work.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace colonnade::python {

class CallQueue;

/// One call. Whoever waits for it makes it, with those before it, unless the
/// queue's thread has begun.
class QueuedCall final : public c10d::Work {
 public:
  using Outputs = std::vector<at::Tensor>;

  QueuedCall(std::shared_ptr<CallQueue> queue, int rank, c10d::OpType type,
             const char* title, const Outputs& inputs, Outputs outputs,
             std::function<void()> make);

  bool isCompleted() override { return is_done(); }
  bool isSuccess() const override;
  Outputs result() override { return outputs_; }
  /// Throws what the call threw, and CommError where it takes longer.
  bool wait(std::chrono::milliseconds limit = kNoTimeout) override;
  void synchronize() override { wait(); }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;

 private:
  friend class CallQueue;

  bool is_done() const { return done_.load(std::memory_order_acquire); }
  /// Makes the call; whatever it throws is kept.
  void run() noexcept;
  /// Tells those who look at the work or at its future.
  void tell();
  void complete(c10::ivalue::Future& future) const;

  std::shared_ptr<CallQueue> queue_;
  const char* title_;
  Outputs outputs_;
  std::function<void()> make_;
  std::exception_ptr error_;
  std::atomic<bool> done_ = false;
  std::mutex future_mutex_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

using QueuedCallPtr = c10::intrusive_ptr<QueuedCall>;

/// Makes calls in the order in which they were added, one at a time: on a
/// thread of its own, or on that of a caller that waits. What is called back
/// may wait for further calls: there is another thread for those.
class CallQueue {
 public:
  ~CallQueue();

  /// soon  whether it is to begin though nobody waits for it
  void add(QueuedCallPtr call, bool soon);
  /// Returns when `call` is done, having helped.
  void help(const QueuedCall& call);
  /// Whether `call` is done within `limit`.
  bool wait(const QueuedCall& call, std::chrono::milliseconds limit);
  /// Whether all calls are done within `limit`.
  bool settles(std::chrono::milliseconds limit);
  /// Returns when all calls are done, and the threads have ended.
  void finish();

 private:
  bool has_next() const { return !is_busy_ && !calls_.empty(); }
  void run_next(std::unique_lock<std::mutex>& lock);
  /// Wakes a thread for the calls that wait, or starts one.
  void send_for_thread();
  void work();

  std::mutex mutex_;
  std::condition_variable more_;  // for the threads
  std::condition_variable done_;  // for those who wait
  std::deque<QueuedCallPtr> calls_;
  bool is_busy_ = false;
  bool is_ending_ = false;
  int idle_ = 0;     // threads that wait for calls
  int telling_ = 0;  // calls that are made, but not done
  std::vector<std::thread> threads_;
};

}  // namespace colonnade::python
