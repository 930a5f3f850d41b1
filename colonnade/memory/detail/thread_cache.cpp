// colonnade/memory/detail/thread_cache.cpp
#include "colonnade/memory/detail/thread_cache.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace colonnade::detail {

Block* BlockLists::take(uint32_t size_class) {
  Block* const block = first_[size_class];
  if (block != nullptr) {
    first_[size_class] = block->next;
  }
  return block;
}

void BlockLists::put(Block* block) {
  Block*& first = first_[block->size_class];
  block->next = first;
  first = block;
}

void BlockLists::take_all(BlockLists& other) {
  for (uint32_t size_class = 0; size_class < kSizeClasses; ++size_class) {
    while (Block* block = other.take(size_class)) {
      put(block);
    }
  }
}

size_t BlockLists::unmap_all() {
  size_t bytes = 0;
  for (uint32_t size_class = 0; size_class < kSizeClasses; ++size_class) {
    while (Block* block = take(size_class)) {
      bytes += block->bytes();
      unmap_block(block);
    }
  }
  return bytes;
}

SharedCache& SharedCache::instance() {
  static SharedCache* const cache = new SharedCache;
  return *cache;
}

Account* SharedCache::open_account() {
  const std::lock_guard lock(mutex_);
  const auto idle = std::find_if(
      closed_accounts_.begin(), closed_accounts_.end(),
      [](const Account* account) { return account->in_use() == 0; });
  if (idle == closed_accounts_.end()) {
    return new Account;
  }
  Account* const account = *idle;
  closed_accounts_.erase(idle);
  account->reset_peak();
  return account;
}

void SharedCache::close(Account* account, BlockLists& lists) {
  const std::lock_guard lock(mutex_);
  closed_accounts_.push_back(account);
  lists_.take_all(lists);
}

Block* SharedCache::take(uint32_t size_class) {
  const std::lock_guard lock(mutex_);
  return lists_.take(size_class);
}

void SharedCache::put(Block* block) {
  const std::lock_guard lock(mutex_);
  lists_.put(block);
}

void SharedCache::release() {
  releases_.fetch_add(1, std::memory_order_relaxed);
  BlockLists lists;
  {
    const std::lock_guard lock(mutex_);
    std::swap(lists, lists_);
  }
  unreserve(lists.unmap_all());
}

bool SharedCache::reserve(size_t bytes) {
  const auto count = static_cast<int64_t>(bytes);
  const int64_t before = kept_.fetch_add(count, std::memory_order_relaxed);
  if (before + count <= limit_.load(std::memory_order_relaxed)) {
    return true;
  }
  unreserve(bytes);
  return false;
}

namespace {

// A plain pointer beside the object, since frees come after its destruction,
// from thread-local objects that are older.
thread_local ThreadCache* current_cache = nullptr;
thread_local bool thread_ends = false;

struct ThreadEnd {
  ~ThreadEnd() {
    current_cache = nullptr;
    thread_ends = true;
  }
  ThreadCache cache;
};

}  // namespace

ThreadCache* ThreadCache::current() {
  if (current_cache == nullptr && !thread_ends) {
    thread_local ThreadEnd at_end;
    current_cache = &at_end.cache;
  }
  return current_cache;
}

ThreadCache::ThreadCache()
    : account_(SharedCache::instance().open_account()),
      releases_seen_(SharedCache::instance().releases()) {}

ThreadCache::~ThreadCache() {
  SharedCache::instance().close(account_, lists_);
}

Block* ThreadCache::take(uint32_t size_class) {
  if (releases_seen_ != SharedCache::instance().releases()) {
    release();
  }
  return lists_.take(size_class);
}

void ThreadCache::put(Block* block) {
  if (releases_seen_ != SharedCache::instance().releases()) {
    release();
  }
  lists_.put(block);
}

void ThreadCache::release() {
  SharedCache& shared = SharedCache::instance();
  releases_seen_ = shared.releases();
  shared.unreserve(lists_.unmap_all());
}

namespace {

Block* take_kept(ThreadCache* thread, uint32_t size_class) {
  Block* block = thread != nullptr ? thread->take(size_class) : nullptr;
  SharedCache& shared = SharedCache::instance();
  if (block == nullptr) {
    block = shared.take(size_class);
  }
  if (block != nullptr) {
    shared.unreserve(block->bytes());
  }
  return block;
}

Block* allocate_large_block(ThreadCache* thread, size_t bytes) {
  const uint32_t size_class = detail::size_class(bytes);
  if (size_class >= kSizeClasses) {
    return nullptr;
  }
  if (Block* block = take_kept(thread, size_class)) {
    return block;
  }
  if (Block* block = map_block(size_class)) {
    return block;
  }
  SharedCache::instance().release();
  if (thread != nullptr) {
    thread->release();
  }
  return map_block(size_class);
}

}  // namespace

Block* allocate_block(size_t bytes) {
  ThreadCache* const thread = ThreadCache::current();
  const bool large = bytes >= kLargeBytes;
  Block* const block =
      large ? allocate_large_block(thread, bytes) : make_small_block(bytes);
  if (block == nullptr) {
    return nullptr;
  }
  block->requested = bytes;
  block->account = thread != nullptr ? &thread->account() : nullptr;
  if (block->account != nullptr) {
    block->account->allocated(static_cast<int64_t>(bytes));
  }
  if (large) {
    mark_in_use(block);
  }
  return block;
}

void free_block(Block* block) {
  ThreadCache* const thread = ThreadCache::current();
  Account* const account = block->account;
  const auto requested = static_cast<int64_t>(block->requested);
  const bool own = thread != nullptr && account == &thread->account();
  if (block->size_class == Block::kSmall) {
    free_small_block(block);
  } else if (!SharedCache::instance().reserve(block->bytes())) {
    unmap_block(block);
  } else {
    mark_kept(block);
    if (own) {
      thread->put(block);
    } else {
      SharedCache::instance().put(block);
    }
  }
  // Last, as the account may be another thread's from then on.
  if (own) {
    account->freed(requested);
  } else if (account != nullptr) {
    account->freed_elsewhere(requested);
  }
}

}  // namespace colonnade::detail
