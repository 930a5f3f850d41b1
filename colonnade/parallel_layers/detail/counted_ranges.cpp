// colonnade/parallel_layers/detail/counted_ranges.cpp
#include "colonnade/parallel_layers/detail/counted_ranges.h"

#include "colonnade/comm/exchange.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

namespace colonnade::parallel_layers::detail {
namespace {

void append_number(std::string& bytes, int64_t value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string to_bytes(const std::vector<HeldShard>& shards) {
  std::string bytes;
  append_number(bytes, static_cast<int64_t>(shards.size()));
  for (const HeldShard& shard : shards) {
    append_number(bytes, shard.has_gradient);
    append_number(bytes, static_cast<int64_t>(shard.ranges.size()));
    for (const IndexRange& range : shard.ranges) {
      append_number(bytes, range.begin);
      append_number(bytes, range.end);
    }
  }
  return bytes;
}

int64_t take_number(std::string_view& bytes) {
  int64_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

std::vector<HeldShard> from_bytes(std::string_view bytes) {
  std::vector<HeldShard> shards(static_cast<size_t>(take_number(bytes)));
  for (HeldShard& shard : shards) {
    shard.has_gradient = take_number(bytes) != 0;
    shard.ranges.resize(static_cast<size_t>(take_number(bytes)));
    for (IndexRange& range : shard.ranges) {
      range.begin = take_number(bytes);
      range.end = take_number(bytes);
    }
  }
  return shards;
}

}  // namespace

bool is_disjoint(const ShardSpec& spec, int rank, int size) {
  if (spec == ShardSpec::padded(spec.dim, spec.whole_size, rank, size)) {
    return true;
  }
  std::vector<int64_t> segments;
  for (const IndexRange& range : spec.ranges) {
    segments.push_back(range.size() * size);
  }
  return spec == ShardSpec::segments(spec.dim, segments, rank, size);
}

std::vector<IndexRange> without(const std::vector<IndexRange>& ranges,
                                const std::vector<IndexRange>& taken) {
  std::vector<IndexRange> result;
  for (IndexRange rest : ranges) {
    for (const IndexRange& hole : taken) {
      if (hole.end <= rest.begin || rest.end <= hole.begin) {
        continue;
      }
      if (rest.begin < hole.begin) {
        result.push_back({rest.begin, hole.begin});
      }
      rest.begin = std::min(hole.end, rest.end);
    }
    if (rest.size() > 0) {
      result.push_back(rest);
    }
  }
  return result;
}

std::vector<std::vector<IndexRange>> counted_ranges(
    Group& group, const std::vector<HeldShard>& shards) {
  const std::vector<std::string> all =
      all_gather_bytes(group, to_bytes(shards));
  std::vector<std::vector<HeldShard>> of_ranks;
  for (const std::string& bytes : all) {
    of_ranks.push_back(from_bytes(bytes));
  }
  for (size_t rank = 1; rank < of_ranks.size(); ++rank) {
    check_arg(of_ranks[rank].size() == of_ranks[0].size(),
              "clip_grad_norm: rank ", group.ranks()[0], " was given ",
              of_ranks[0].size(), " sharded parameters, rank ",
              group.ranks()[rank], " ", of_ranks[rank].size(),
              "; give every rank the same parameters");
  }
  std::vector<std::vector<IndexRange>> result;
  for (size_t i = 0; i < shards.size(); ++i) {
    std::vector<IndexRange> mine = shards[i].ranges;
    for (int rank = 0; rank < group.rank(); ++rank) {
      const HeldShard& other = of_ranks[static_cast<size_t>(rank)][i];
      if (other.has_gradient) {
        mine = without(mine, other.ranges);
      }
    }
    result.push_back(std::move(mine));
  }
  return result;
}

int64_t local_index(const ShardSpec& spec, int64_t index) {
  int64_t local = 0;
  for (const IndexRange& range : spec.ranges) {
    if (index < range.end) {
      return local + index - range.begin;
    }
    local += range.size();
  }
  return local;
}

}  // namespace colonnade::parallel_layers::detail
