// colonnade/memory/detail/block.h
#pragma once

#include "colonnade/memory/detail/account.h"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace colonnade::detail {

/// Blocks of this size and more are mapped and kept.
inline constexpr size_t kLargeBytes = size_t{64} << 10;
inline constexpr size_t kHugePageBytes = size_t{2} << 20;
inline constexpr uint32_t kSizeClasses = 8 * 48;

/// The class of a large size: eight to a power of two, so that a block is at
/// most 1/8 larger than asked for and a power of two is a class of its own.
constexpr uint32_t size_class(size_t bytes) {
  const size_t last = bytes - 1;
  const int exponent = std::bit_width(last) - 1;
  const size_t eighth = last >> (exponent - 3);
  return static_cast<uint32_t>((exponent - 15) * 8 + (eighth - 8));
}

/// The largest size in a class, which all of its blocks have.
constexpr size_t class_bytes(uint32_t size_class) {
  const size_t eighth = size_class % 8 + 8;
  return (eighth + 1) << (size_class / 8 + 12);
}

/// What precedes a tensor's memory; that is at `this + 1`.
struct alignas(64) Block {
  static constexpr uint32_t kSmall = kSizeClasses;

  Block* next;          ///< In a list, while it is kept.
  Account* account;     ///< Of the thread that allocated it, or null.
  size_t requested;     ///< Bytes the tensor asked for.
  uint32_t size_class;  ///< Or kSmall.

  void* data() { return this + 1; }
  static Block* of(void* data) { return static_cast<Block*>(data) - 1; }
  size_t bytes() const { return class_bytes(size_class); }
};
static_assert(sizeof(Block) == 64);

/// A block from malloc; null where there is no memory.
Block* make_small_block(size_t bytes);
void free_small_block(Block* block);

/// A mapping of its own, its data at a page boundary (from 2 MiB on at that of
/// a huge page, so that a power of two fills whole ones); null where there is
/// no memory.
Block* map_block(uint32_t size_class);
void unmap_block(Block* block);

/// Tell AddressSanitizer which bytes a tensor may touch; nothing otherwise.
void mark_in_use(Block* block);
void mark_kept(Block* block);

}  // namespace colonnade::detail
