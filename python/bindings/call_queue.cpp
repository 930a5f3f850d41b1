// The calls of a group of torch.distributed, one after the other.
#include "call_queue.h"

#include "colonnade/comm/asleep.h"
#include "colonnade/core/error.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/jit_type.h>

#include <exception>
#include <utility>

namespace colonnade::python {

QueuedCall::QueuedCall(std::shared_ptr<CallQueue> queue, int rank,
                       c10d::OpType type, const char* title,
                       const Outputs& inputs, Outputs outputs,
                       std::function<void()> make)
    : Work(rank, type, title, inputs),
      queue_(std::move(queue)),
      title_(title),
      outputs_(std::move(outputs)),
      make_(std::move(make)) {}

bool QueuedCall::isSuccess() const {
  return is_done() && error_ == nullptr;
}

bool QueuedCall::wait(std::chrono::milliseconds limit) {
  if (limit == kNoTimeout) {
    queue_->help(*this);
  } else {
    check<CommError>(queue_->wait(*this, limit), title_, " of rank ", rank_,
                     ": not done within the ", limit.count(),
                     " ms for which wait() was to wait");
  }
  if (error_ != nullptr) {
    std::rethrow_exception(error_);
  }
  return true;
}

c10::intrusive_ptr<c10::ivalue::Future> QueuedCall::getFuture() {
  std::unique_lock lock(future_mutex_);
  if (future_ == nullptr) {
    future_ = c10::make_intrusive<c10::ivalue::Future>(
        c10::ListType::create(c10::TensorType::get()));
    if (is_done()) {
      complete(*future_);
    }
  }
  return future_;
}

void QueuedCall::complete(c10::ivalue::Future& future) const {
  if (error_ != nullptr) {
    future.setError(error_);
  } else {
    future.markCompleted(c10::IValue(outputs_));
  }
}

void QueuedCall::run() noexcept {
  try {
    // What the tensors' gradients are is not of interest here.
    const at::AutoDispatchBelowADInplaceOrView guard;
    make_();
  } catch (...) {
    error_ = std::current_exception();
  }
  make_ = nullptr;
}

void QueuedCall::tell() {
  c10::intrusive_ptr<c10::ivalue::Future> future;
  {
    const std::lock_guard lock(future_mutex_);
    done_.store(true, std::memory_order_release);
    future = future_;
  }
  if (future != nullptr) {
    complete(*future);
  }
  Work::finish(error_);
}

CallQueue::~CallQueue() {
  finish();
}

void CallQueue::add(QueuedCallPtr call, bool soon) {
  const std::lock_guard lock(mutex_);
  calls_.push_back(std::move(call));
  if (soon && !is_busy_) {
    send_for_thread();
  }
}

void CallQueue::send_for_thread() {
  if (idle_ > 0) {
    more_.notify_one();
  } else {
    threads_.emplace_back([this] { work(); });
  }
}

void CallQueue::run_next(std::unique_lock<std::mutex>& lock) {
  const QueuedCallPtr call = std::move(calls_.front());
  calls_.pop_front();
  is_busy_ = true;
  lock.unlock();
  call->run();
  lock.lock();
  is_busy_ = false;
  ++telling_;
  // This thread may be away for long: with what is called back, or for good.
  if (!calls_.empty()) {
    send_for_thread();
  }
  lock.unlock();
  call->tell();
  lock.lock();
  --telling_;
  done_.notify_all();
}

void CallQueue::help(const QueuedCall& call) {
  std::unique_lock lock(mutex_);
  while (!call.is_done()) {
    if (has_next()) {
      run_next(lock);
    } else {
      done_.wait(lock);
    }
  }
}

bool CallQueue::wait(const QueuedCall& call, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return done_.wait_for(lock, limit, [&] { return call.is_done(); });
}

bool CallQueue::settles(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return done_.wait_for(lock, limit, [&] {
    return !is_busy_ && calls_.empty() && telling_ == 0;
  });
}

void CallQueue::work() {
  const AsleepScope asleep;
  std::unique_lock lock(mutex_);
  while (!is_ending_ || has_next()) {
    if (has_next()) {
      run_next(lock);
    } else {
      ++idle_;
      more_.wait(lock);
      --idle_;
    }
  }
}

void CallQueue::finish() {
  std::unique_lock lock(mutex_);
  is_ending_ = true;
  more_.notify_all();
  while (!threads_.empty()) {
    std::thread thread = std::move(threads_.back());
    threads_.pop_back();
    lock.unlock();
    thread.join();
    lock.lock();
  }
}

}  // namespace colonnade::python
