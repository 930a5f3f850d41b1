// colonnade/memory/detail/account.h
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace colonnade::detail {

/// Counts the bytes that one thread allocated and that are still in use.
///
/// Its thread alone writes the first three, without a locked instruction; a
/// free on another thread has a counter of its own, on another cache line.
class Account {
 public:
  void allocated(int64_t bytes) {
    add(allocated_, bytes);
    peak_.store(std::max(peak(), in_use()), std::memory_order_relaxed);
  }
  void freed(int64_t bytes) { add(freed_, bytes); }
  void freed_elsewhere(int64_t bytes) {
    freed_elsewhere_.fetch_add(bytes, std::memory_order_release);
  }

  /// Acquire: a thread that finds 0 may take over the account.
  int64_t in_use() const {
    return allocated_.load(std::memory_order_relaxed) -
           freed_.load(std::memory_order_relaxed) -
           freed_elsewhere_.load(std::memory_order_acquire);
  }
  int64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  void reset_peak() { peak_.store(in_use(), std::memory_order_relaxed); }

 private:
  static void add(std::atomic<int64_t>& counter, int64_t bytes) {
    counter.store(counter.load(std::memory_order_relaxed) + bytes,
                  std::memory_order_relaxed);
  }

  std::atomic<int64_t> allocated_{0};
  std::atomic<int64_t> freed_{0};
  std::atomic<int64_t> peak_{0};
  alignas(64) std::atomic<int64_t> freed_elsewhere_{0};
};

}  // namespace colonnade::detail
