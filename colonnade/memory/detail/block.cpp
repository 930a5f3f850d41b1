// colonnade/memory/detail/block.cpp
#include "colonnade/memory/detail/block.h"

#include <sys/mman.h>

#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define COLONNADE_POISON(begin, bytes) ASAN_POISON_MEMORY_REGION(begin, bytes)
#define COLONNADE_UNPOISON(begin, bytes) \
  ASAN_UNPOISON_MEMORY_REGION(begin, bytes)
#else
#define COLONNADE_POISON(begin, bytes)
#define COLONNADE_UNPOISON(begin, bytes)
#endif

namespace colonnade::detail {
namespace {

// A page in front of the data has the header: within the data's own pages it
// would push a power of two into one page more.
constexpr size_t kPageBytes = 4096;

char* mapping_of(Block* block) {
  return static_cast<char*>(block->data()) - kPageBytes;
}

char* map(size_t bytes) {
  void* begin = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return begin == MAP_FAILED ? nullptr : static_cast<char*>(begin);
}

/// Maps a page and `bytes` after it that begin at a multiple of `alignment`.
char* map_aligned(size_t bytes, size_t alignment) {
  const size_t reserved = kPageBytes + bytes + alignment;
  char* const begin = map(reserved);
  if (begin == nullptr) {
    return nullptr;
  }
  const auto first = reinterpret_cast<uintptr_t>(begin) + kPageBytes;
  const size_t skipped = (alignment - first % alignment) % alignment;
  if (skipped > 0) {
    munmap(begin, skipped);
  }
  char* const end = begin + skipped + kPageBytes + bytes;
  munmap(end, alignment - skipped);
  return begin + skipped;
}

}  // namespace

Block* make_small_block(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignof(Block), sizeof(Block) + bytes) != 0) {
    return nullptr;
  }
  auto* block = static_cast<Block*>(memory);
  block->size_class = Block::kSmall;
  return block;
}

void free_small_block(Block* block) {
  std::free(block);
}

Block* map_block(uint32_t size_class) {
  const size_t bytes = class_bytes(size_class);
  char* const begin = bytes >= kHugePageBytes
                          ? map_aligned(bytes, kHugePageBytes)
                          : map(kPageBytes + bytes);
  if (begin == nullptr) {
    return nullptr;
  }
  // Refused where the system has no huge pages; then it has small ones.
  madvise(begin + kPageBytes, bytes, MADV_HUGEPAGE);
  Block* const block = Block::of(begin + kPageBytes);
  block->size_class = size_class;
  return block;
}

void unmap_block(Block* block) {
  COLONNADE_UNPOISON(block->data(), block->bytes());
  munmap(mapping_of(block), kPageBytes + block->bytes());
}

void mark_in_use([[maybe_unused]] Block* block) {
  COLONNADE_POISON(block->data(), block->bytes());
  COLONNADE_UNPOISON(block->data(), block->requested);
}

void mark_kept([[maybe_unused]] Block* block) {
  COLONNADE_POISON(block->data(), block->bytes());
}

}  // namespace colonnade::detail
