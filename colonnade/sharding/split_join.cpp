// colonnade/sharding/split_join.cpp
#include "colonnade/sharding/split_join.h"

#include "colonnade/comm/exchange.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

/// The parts of a whole and of a shard of it that are the same elements.
struct Part {
  at::Tensor whole;
  at::Tensor shard;
};

/// Pairs of views, one a range.
std::vector<Part> parts_of(const at::Tensor& whole, const at::Tensor& shard,
                           const ShardSpec& spec) {
  std::vector<Part> parts;
  int64_t position = 0;
  for (const IndexRange& range : spec.ranges) {
    parts.push_back({whole.narrow(spec.dim, range.begin, range.size()),
                     shard.narrow(spec.dim, position, range.size())});
    position += range.size();
  }
  return parts;
}

void fill_shard(const at::Tensor& shard, const at::Tensor& whole,
                const ShardSpec& spec) {
  for (const Part& part : parts_of(whole, shard, spec)) {
    part.shard.copy_(part.whole);
  }
  shard.narrow(spec.dim, spec.held_size(), spec.padding()).zero_();
}

/// Throws unless every index of the whole is in a range of some spec.
void check_covered(std::span<const ShardSpec> specs) {
  std::vector<IndexRange> ranges;
  for (const ShardSpec& spec : specs) {
    ranges.insert(ranges.end(), spec.ranges.begin(), spec.ranges.end());
  }
  const int64_t whole_size = specs.front().whole_size;
  ranges.push_back({whole_size, whole_size});
  std::ranges::sort(ranges, {}, &IndexRange::begin);
  int64_t covered = 0;
  for (const IndexRange& range : ranges) {
    check_arg(range.begin <= covered, "join: [", covered, ", ", range.begin,
              ") of dim ", specs.front().dim, " of size ", whole_size,
              " is in no shard; pass the shards of every rank");
    covered = std::max(covered, range.end);
  }
}

void check_shards(std::span<const at::Tensor> shards,
                  std::span<const ShardSpec> specs) {
  check_arg(!shards.empty() && shards.size() == specs.size(),
            "join: ", shards.size(), " shards and ", specs.size(),
            " specs; pass one of each a rank");
  for (size_t rank = 0; rank < shards.size(); ++rank) {
    const at::Tensor& shard = shards[rank];
    const ShardSpec& spec = specs[rank];
    const std::string subject = concat("join: rank ", rank);
    spec.validate(shard.sizes(), subject);
    check_arg(spec.whole_shape(shard.sizes()) ==
                      specs[0].whole_shape(shards[0].sizes()) &&
                  spec.dim == specs[0].dim,
              subject, " holds ", shard.sizes(), " (", to_string(spec),
              "), rank 0 ", shards[0].sizes(), " (", to_string(specs[0]),
              "); they are not shards of one tensor");
    check_arg(shard.scalar_type() == shards[0].scalar_type(), subject,
              " holds ", shard.scalar_type(), ", rank 0 ",
              shards[0].scalar_type(), "; gather shards of one dtype");
  }
  check_covered(specs);
}

/// A spec as bytes, for the ranks of one run: its numbers in memory order.
std::string encode(const ShardSpec& spec) {
  std::vector<int64_t> numbers{spec.dim, spec.whole_size, spec.local_size};
  for (const IndexRange& range : spec.ranges) {
    numbers.insert(numbers.end(), {range.begin, range.end});
  }
  return {reinterpret_cast<const char*>(numbers.data()),
          numbers.size() * sizeof(int64_t)};
}

ShardSpec decode(const std::string& bytes) {
  std::vector<int64_t> numbers(bytes.size() / sizeof(int64_t));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  ShardSpec spec{numbers[0], numbers[1], {}, numbers[2]};
  for (size_t i = 3; i < numbers.size(); i += 2) {
    spec.ranges.push_back({numbers[i], numbers[i + 1]});
  }
  return spec;
}

/// `shard` with zeros behind it up to `size` along `dim`.
at::Tensor pad_to(const at::Tensor& shard, int64_t dim, int64_t size) {
  std::vector<int64_t> shape = shard.sizes().vec();
  shape[dim] = size;
  at::Tensor padded = at::zeros(shape, shard.options());
  padded.narrow(dim, 0, shard.size(dim)).copy_(shard);
  return padded;
}

}  // namespace

at::Tensor split(const at::Tensor& whole, const ShardSpec& spec) {
  at::NoGradGuard no_grad;
  const std::vector<int64_t> shape = spec.local_shape(whole.sizes());
  spec.validate(shape, "split");
  at::Tensor shard = at::empty(shape, whole.options());
  fill_shard(shard, whole, spec);
  return shard;
}

at::Tensor join(std::span<const at::Tensor> shards,
                std::span<const ShardSpec> specs) {
  at::NoGradGuard no_grad;
  check_shards(shards, specs);
  at::Tensor whole =
      at::empty(specs[0].whole_shape(shards[0].sizes()), shards[0].options());
  // Backwards, so that the first rank to hold a part has the last word.
  for (size_t rank = shards.size(); rank-- > 0;) {
    for (const Part& part : parts_of(whole, shards[rank], specs[rank])) {
      part.whole.copy_(part.shard);
    }
  }
  return whole;
}

at::Tensor gather_parameter(const at::Tensor& parameter) {
  at::NoGradGuard no_grad;
  const auto attributes = get_tensor_parallel_attributes(parameter);
  if (!attributes) {
    return parameter.detach().clone(at::MemoryFormat::Contiguous);
  }
  const ShardSpec& own = attributes->spec;
  own.validate(parameter.sizes(), "gather_parameter");
  const GroupPtr group = RankContext::current()->group(attributes->group);

  // Ranks may hold shards of different sizes: each is padded to the largest
  // for the exchange, and cut to its own again.
  std::vector<ShardSpec> specs;
  int64_t largest = 0;
  for (const std::string& bytes : all_gather_bytes(*group, encode(own))) {
    specs.push_back(decode(bytes));
    largest = std::max(largest, specs.back().local_size);
  }
  const at::Tensor sent = own.local_size < largest
                              ? pad_to(parameter, own.dim, largest)
                              : parameter.detach().contiguous();
  std::vector<int64_t> shape = sent.sizes().vec();
  shape.insert(shape.begin(), group->size());
  at::Tensor received = at::empty(shape, sent.options());
  group->all_gather(received, sent);

  std::vector<at::Tensor> shards = received.unbind();
  for (size_t rank = 0; rank < shards.size(); ++rank) {
    shards[rank] = shards[rank].narrow(own.dim, 0, specs[rank].local_size);
  }
  return join(shards, specs);
}

void split_parameter(at::Tensor& parameter, const at::Tensor& whole) {
  at::NoGradGuard no_grad;
  const auto attributes = get_tensor_parallel_attributes(parameter);
  const std::vector<int64_t> shape =
      attributes ? attributes->spec.whole_shape(parameter.sizes())
                 : parameter.sizes().vec();
  check_arg(whole.sizes() == shape, "split_parameter: the tensor given is ",
            whole.sizes(), ", the whole parameter is ", at::IntArrayRef(shape),
            attributes ? concat(" (", to_string(attributes->spec), ")") : "",
            "; pass the whole, without padding");
  if (attributes) {
    fill_shard(parameter, whole, attributes->spec);
  } else {
    parameter.copy_(whole);
  }
}

}  // namespace colonnade
