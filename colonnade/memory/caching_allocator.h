// colonnade/memory/caching_allocator.h
#pragma once

#include "colonnade/core/api.h"

#include <cstdint>

namespace colonnade {

struct CachingAllocatorOptions {
  /// Bytes that may be kept unused, over all threads; a block freed beyond them
  /// goes back to the system. 0: half of the machine's memory.
  int64_t max_kept_bytes = 0;
};

/// Makes torch keep the memory of large CPU tensors from one step to the next.
///
/// LibTorch returns a large block to the system as it is freed, and the next
/// step faults every page of it in again, which can take most of a step. With
/// this, freed blocks of 64 KiB and more stay in lists by size, a set of lists
/// a thread, in huge pages where the system has them. A thread that ends leaves
/// its blocks to all others.
///
/// For the whole process. Call it before ranks start, as no tensor may be
/// allocated meanwhile; a second call changes the options only. Tensors made
/// before or after it mix freely.
///
/// Cost    tensors of 64 KiB and more take up to 1/8 more address space
/// Errors  InvalidArgument where max_kept_bytes is negative
COLONNADE_API void install_caching_allocator(
    const CachingAllocatorOptions& options = {});

/// Gives new tensors torch's own allocator again, and releases what is kept.
/// Nothing happens where none is installed.
COLONNADE_API void remove_caching_allocator();

/// Gives memory that no tensor uses back to the system: at once what this
/// thread and threads that have ended keep, and what any other thread keeps
/// when it next allocates or frees a large tensor.
COLONNADE_API void release_kept_memory();

/// Bytes kept for reuse, over all threads.
COLONNADE_API int64_t kept_memory_bytes();

/// The CPU tensors that one thread allocated, such as those of a thread rank,
/// whichever thread frees them. All sizes count, as the tensor asked for them.
struct MemoryUse {
  int64_t in_use_bytes = 0;
  int64_t peak_bytes = 0;  ///< The most at any time since the last reset.
};

/// Of the calling thread; zeros where the caching allocator is not installed.
COLONNADE_API MemoryUse thread_memory_use();

/// Makes what is in use now the calling thread's peak.
COLONNADE_API void reset_thread_memory_peak();

}  // namespace colonnade
