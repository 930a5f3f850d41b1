// colonnade/memory/caching_allocator.cpp
#include "colonnade/memory/caching_allocator.h"

#include "colonnade/core/error.h"
#include "colonnade/memory/detail/thread_cache.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <unistd.h>

#include <limits>

namespace colonnade {
namespace {

// Above any that torch's own allocators register with.
constexpr uint8_t kPriority = 100;

class CachingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, nullptr, &deallocate, c10::kCPU};
    }
    detail::Block* const block = detail::allocate_block(bytes);
    TORCH_CHECK_WITH(OutOfMemoryError, block != nullptr,
                     "CachingAllocator: no memory for a tensor of ", bytes,
                     " bytes");
    c10::profiledCPUMemoryReporter().New(block->data(), bytes);
    return {block->data(), block->data(), &deallocate, c10::kCPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &deallocate; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void deallocate(void* data) {
    if (data != nullptr) {
      c10::profiledCPUMemoryReporter().Delete(data);
      detail::free_block(detail::Block::of(data));
    }
  }
};

CachingAllocator& allocator() {
  static CachingAllocator* const instance = new CachingAllocator;
  return *instance;
}

bool is_installed() {
  return c10::GetCPUAllocator() == &allocator();
}

int64_t half_of_memory() {
  const int64_t bytes =
      int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) / 2;
  return bytes > 0 ? bytes : std::numeric_limits<int64_t>::max();
}

}  // namespace

void install_caching_allocator(const CachingAllocatorOptions& options) {
  check_arg(options.max_kept_bytes >= 0,
            "install_caching_allocator: max_kept_bytes is ",
            options.max_kept_bytes,
            "; give a number of bytes, or 0 for half "
            "of the machine's memory");
  detail::SharedCache::instance().set_limit(
      options.max_kept_bytes > 0 ? options.max_kept_bytes : half_of_memory());
  if (!is_installed()) {
    c10::SetCPUAllocator(&allocator(), kPriority);
  }
}

void remove_caching_allocator() {
  if (is_installed()) {
    c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), kPriority);
    // What is freed from now on is not kept either.
    detail::SharedCache::instance().set_limit(0);
    release_kept_memory();
  }
}

void release_kept_memory() {
  detail::SharedCache::instance().release();
  if (auto* thread = detail::ThreadCache::current()) {
    thread->release();
  }
}

int64_t kept_memory_bytes() {
  return detail::SharedCache::instance().kept();
}

MemoryUse thread_memory_use() {
  auto* const thread = detail::ThreadCache::current();
  if (thread == nullptr) {
    return {};
  }
  return {.in_use_bytes = thread->account().in_use(),
          .peak_bytes = thread->account().peak()};
}

void reset_thread_memory_peak() {
  if (auto* thread = detail::ThreadCache::current()) {
    thread->account().reset_peak();
  }
}

}  // namespace colonnade
