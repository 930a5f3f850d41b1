// colonnade/sharding/shard_spec.cpp
#include "colonnade/sharding/shard_spec.h"

#include "colonnade/core/error.h"

#include <algorithm>
#include <sstream>

namespace colonnade {
namespace {

void check_place(int64_t dim, int64_t rank, int64_t size) {
  check_arg(dim >= 0, "ShardSpec: dim is ", dim,
            "; count it from the front, from 0");
  check_arg(size >= 1 && rank >= 0 && rank < size, "ShardSpec: rank ", rank,
            " is not one of ", size, " ranks");
}

void check_divides(std::string_view what, int64_t size, int64_t ranks) {
  check_arg(size >= 0, "ShardSpec: ", what, " is ", size, "; it is at least 0");
  check_arg(size % ranks == 0, "ShardSpec: ", what, " ", size,
            " does not divide over ", ranks, " ranks; pad it to ",
            (size / ranks + 1) * ranks);
}

/// Appends [begin, end) unless it is empty.
void append(std::vector<IndexRange>& ranges, int64_t begin, int64_t end) {
  if (begin < end) {
    ranges.push_back({begin, end});
  }
}

/// `shape` with `to` in place of `from` at `dim`; `what` names it in errors.
std::vector<int64_t> with_size(const ShardSpec& spec, at::IntArrayRef shape,
                               int64_t from, int64_t to,
                               std::string_view what) {
  const auto dims = static_cast<int64_t>(shape.size());
  check_arg(spec.dim < dims && shape[spec.dim] == from, "ShardSpec: ", what,
            " ", shape, " does not have size ", from, " at dim ", spec.dim,
            " (", to_string(spec), ")");
  std::vector<int64_t> result = shape.vec();
  result[spec.dim] = to;
  return result;
}

}  // namespace

ShardSpec ShardSpec::even(int64_t dim, int64_t whole_size, int64_t rank,
                          int64_t size) {
  return segments(dim, {&whole_size, 1}, rank, size);
}

ShardSpec ShardSpec::padded(int64_t dim, int64_t whole_size, int64_t rank,
                            int64_t size) {
  check_place(dim, rank, size);
  check_arg(whole_size >= 0, "ShardSpec: whole size is ", whole_size,
            "; it is at least 0");
  const int64_t local_size = (whole_size + size - 1) / size;
  const int64_t begin = std::min(rank * local_size, whole_size);
  const int64_t end = std::min(begin + local_size, whole_size);
  ShardSpec spec{dim, whole_size, {}, local_size};
  append(spec.ranges, begin, end);
  return spec;
}

ShardSpec ShardSpec::segments(int64_t dim, std::span<const int64_t> sizes,
                              int64_t rank, int64_t size) {
  check_place(dim, rank, size);
  const std::string_view what = sizes.size() == 1 ? "whole size" : "segment";
  ShardSpec spec{dim, 0, {}, 0};
  for (const int64_t segment : sizes) {
    check_divides(what, segment, size);
    const int64_t part = segment / size;
    const int64_t begin = spec.whole_size + rank * part;
    append(spec.ranges, begin, begin + part);
    spec.whole_size += segment;
    spec.local_size += part;
  }
  return spec;
}

int64_t ShardSpec::held_size() const {
  int64_t size = 0;
  for (const IndexRange& range : ranges) {
    size += range.size();
  }
  return size;
}

std::vector<int64_t> ShardSpec::whole_shape(at::IntArrayRef local_shape) const {
  return with_size(*this, local_shape, local_size, whole_size, "shard");
}

std::vector<int64_t> ShardSpec::local_shape(at::IntArrayRef whole_shape) const {
  return with_size(*this, whole_shape, whole_size, local_size, "whole");
}

void ShardSpec::validate(at::IntArrayRef local_shape,
                         std::string_view subject) const {
  const auto dims = static_cast<int64_t>(local_shape.size());
  check_arg(dim >= 0 && dim < dims, subject, ": dim ", dim,
            " is not one of the ", dims, " of a shard ", local_shape, " (",
            to_string(*this), ")");
  int64_t previous = 0;
  for (const IndexRange& range : ranges) {
    check_arg(range.begin >= previous && range.begin < range.end &&
                  range.end <= whole_size,
              subject, ": range [", range.begin, ", ", range.end,
              ") is empty, outside the whole or before the range in front of "
              "it (",
              to_string(*this), "); give ascending ranges that do not overlap");
    previous = range.end;
  }
  check_arg(local_shape[dim] == local_size, subject, ": shard ", local_shape,
            " does not have local_size ", local_size, " at dim ", dim, " (",
            to_string(*this), ")");
  check_arg(held_size() <= local_size, subject, ": ranges hold ", held_size(),
            ", more than local_size ", local_size, " (", to_string(*this), ")");
}

std::string to_string(const ShardSpec& spec) {
  std::ostringstream text;
  text << "dim " << spec.dim << ",";
  for (const IndexRange& range : spec.ranges) {
    text << " [" << range.begin << ", " << range.end << ")";
  }
  text << (spec.ranges.empty() ? " none" : "") << " of " << spec.whole_size;
  if (spec.padding() != 0) {
    text << ", padded to " << spec.local_size;
  }
  return text.str();
}

}  // namespace colonnade
