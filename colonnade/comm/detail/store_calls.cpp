// colonnade/comm/detail/store_calls.cpp
#include "colonnade/comm/detail/store_calls.h"

#include "colonnade/core/detail/signals.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace colonnade::detail {

/// Lives as long as the thread, which may outlive the object.
struct StoreCalls::Queue {
  c10::intrusive_ptr<c10d::Store> store;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void(c10d::Store&)>> calls;
  bool is_calling = false;
  bool ends = false;
  std::thread thread;

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return ends || !calls.empty(); });
      if (calls.empty()) {
        return;
      }
      const auto call = std::move(calls.front());
      calls.pop_front();
      is_calling = true;
      lock.unlock();
      call(*store);
      lock.lock();
      is_calling = false;
      changed.notify_all();
    }
  }
};

StoreCalls::StoreCalls(c10::intrusive_ptr<c10d::Store> store)
    : queue_(std::make_shared<Queue>()) {
  queue_->store = std::move(store);
  queue_->thread = std::thread([queue = queue_] {
    block_signals();
    queue->run();
  });
}

StoreCalls::~StoreCalls() {
  std::unique_lock lock(queue_->mutex);
  queue_->ends = true;
  queue_->calls.clear();  // nobody waits for them any more
  queue_->changed.notify_all();
  const bool returns = queue_->changed.wait_for(
      lock, kAnswer, [&] { return !queue_->is_calling; });
  lock.unlock();
  if (returns) {
    queue_->thread.join();
  } else {
    queue_->thread.detach();
  }
}

void StoreCalls::post(std::function<void(c10d::Store&)> call) {
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->calls.push_back(std::move(call));
  }
  queue_->changed.notify_all();
}

}  // namespace colonnade::detail
