// colonnade/memory/detail/thread_cache.h
#pragma once

#include "colonnade/memory/detail/account.h"
#include "colonnade/memory/detail/block.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

namespace colonnade::detail {

/// Kept blocks, a list a size class. Not thread-safe.
class BlockLists {
 public:
  Block* take(uint32_t size_class);  ///< Null where there is none.
  void put(Block* block);
  void take_all(BlockLists& other);
  size_t unmap_all();  ///< Returns their bytes.

 private:
  std::array<Block*, kSizeClasses> first_{};
};

/// What all threads share: the blocks of threads that have ended, or that were
/// freed on another thread than they came from, and the accounts.
///
/// Never destroyed: tensors with static storage are freed last.
class SharedCache {
 public:
  static SharedCache& instance();

  /// An account that no block in use refers to, for a thread that starts.
  Account* open_account();
  /// Takes over what a thread that ends leaves.
  void close(Account* account, BlockLists& lists);

  Block* take(uint32_t size_class);
  void put(Block* block);
  void release();

  /// Counts `bytes` as kept, unless that would be too much.
  bool reserve(size_t bytes);
  void unreserve(size_t bytes) {
    kept_.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  }
  int64_t kept() const { return kept_.load(std::memory_order_relaxed); }
  void set_limit(int64_t bytes) {
    limit_.store(bytes, std::memory_order_relaxed);
  }
  /// Grows with each release; a thread that sees it grow unmaps its lists.
  uint64_t releases() const {
    return releases_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> kept_{0};
  std::atomic<int64_t> limit_{0};
  std::atomic<uint64_t> releases_{0};

  std::mutex mutex_;
  BlockLists lists_;
  std::vector<Account*> closed_accounts_;
};

/// One thread's lists. Blocks come from here first, then from the shared
/// cache, then from the system; a block goes back to the lists of the thread
/// that allocated it if that frees it, else to the shared cache. So a thread
/// that makes tensors for another finds their memory again.
class ThreadCache {
 public:
  /// The calling thread's; null once its thread-local objects are destroyed.
  static ThreadCache* current();

  ThreadCache();
  ~ThreadCache();
  ThreadCache(const ThreadCache&) = delete;
  ThreadCache& operator=(const ThreadCache&) = delete;

  Account& account() { return *account_; }
  Block* take(uint32_t size_class);
  void put(Block* block);
  void release();

 private:
  Account* account_;
  BlockLists lists_;
  uint64_t releases_seen_;
};

/// A block for `bytes` > 0; null where there is no memory.
Block* allocate_block(size_t bytes);
void free_block(Block* block);

}  // namespace colonnade::detail
