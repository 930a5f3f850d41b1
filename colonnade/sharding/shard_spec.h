// colonnade/sharding/shard_spec.h
#pragma once

#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {

/// Indices [begin, end) of a whole tensor's split dim.
struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const IndexRange&) const = default;
};

/// Which part of a whole tensor one rank holds.
///
/// Along `dim`, of size `whole_size` in the whole, the shard holds `ranges` one
/// after the other, then padding up to `local_size`. Everything that knows
/// shards (init, save, load, reshard, norm, export) is written against ranges:
///
///   an even split          one range
///   a fused weight         one range a segment (gate and up; query, key,
///   value) an uneven last shard   a shorter range, or none a shared head a
///   range that several ranks hold padding                local_size > the sum
///   of the ranges
struct COLONNADE_API ShardSpec {
  int64_t dim = 0;
  int64_t whole_size = 0;
  std::vector<IndexRange> ranges;
  int64_t local_size = 0;

  /// The rank-th of `size` equal parts; InvalidArgument where `whole_size` does
  /// not divide.
  static ShardSpec even(int64_t dim, int64_t whole_size, int64_t rank,
                        int64_t size);

  /// ceil(whole_size / size) indices a rank; the last ranks hold fewer, or
  /// none, and are padded to the same local size. Equal to `even` where the
  /// size divides.
  static ShardSpec padded(int64_t dim, int64_t whole_size, int64_t rank,
                          int64_t size);

  /// An even split of each of several segments that lie one after the other
  /// along `dim`; each must divide.
  static ShardSpec segments(int64_t dim, std::span<const int64_t> sizes,
                            int64_t rank, int64_t size);

  int64_t held_size() const;  ///< Elements along `dim` without the padding.
  int64_t padding() const { return local_size - held_size(); }

  /// The shape of the whole, given that of a shard, and the other way round.
  /// InvalidArgument where the shape given does not have the spec's size.
  std::vector<int64_t> whole_shape(at::IntArrayRef local_shape) const;
  std::vector<int64_t> local_shape(at::IntArrayRef whole_shape) const;

  /// InvalidArgument, with `subject` in front, unless the ranges are ascending
  /// within the whole, not empty and without overlap, fit local_size, and
  /// `local_shape` has local_size at dim.
  void validate(at::IntArrayRef local_shape, std::string_view subject) const;

  bool operator==(const ShardSpec&) const = default;
};

/// For people: "dim 0, [0, 4) [8, 12) of 16, padded to 10".
COLONNADE_API std::string to_string(const ShardSpec& spec);

}  // namespace colonnade
