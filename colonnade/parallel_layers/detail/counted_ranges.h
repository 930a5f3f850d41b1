// colonnade/parallel_layers/detail/counted_ranges.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/sharding/shard_spec.h"

#include <cstdint>
#include <vector>

namespace colonnade::parallel_layers::detail {

// Which rank counts a part of a parameter that several ranks hold.

/// What a rank holds of a parameter, and whether it has a gradient there.
struct HeldShard {
  bool has_gradient = false;
  std::vector<IndexRange> ranges;
};

/// Whether `spec` is rank `rank`'s of a split in which no two ranks hold the
/// same: even, padded or in segments. False where that cannot be told.
bool is_disjoint(const ShardSpec& spec, int rank, int size);

/// For each of this rank's `shards`, what no rank before it counts: each part
/// is counted by the first rank that has a gradient there. Collective.
///
/// Errors  InvalidArgument, on every rank, where ranks give different numbers
///         of shards
std::vector<std::vector<IndexRange>> counted_ranges(
    Group& group, const std::vector<HeldShard>& shards);

/// `ranges` without what is in `taken`; both ascending.
std::vector<IndexRange> without(const std::vector<IndexRange>& ranges,
                                const std::vector<IndexRange>& taken);

/// Where the shard has the whole's `index`, which `spec` holds.
int64_t local_index(const ShardSpec& spec, int64_t index);

}  // namespace colonnade::parallel_layers::detail
