// colonnade/checkpoint/detail/piece.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/sharding/shard_spec.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace colonnade::detail {

/// Indices [begin, end) of the whole's split dim, which lie at [at, ...) of the
/// local tensor's.
struct Span {
  int64_t begin;
  int64_t end;
  int64_t at;
};

/// Consecutive elements, in the whole and in the local tensor alike.
struct Run {
  int64_t whole;  ///< Index of the first in the flattened whole.
  int64_t local;  ///< Index of the first in the flattened local tensor.
  int64_t count;
};

/// Some elements of a whole tensor and where they lie in a local, contiguous
/// one: what a rank holds, what a file holds, or the part of either that the
/// rank answers for.
///
/// Both are seen as [outer, size, inner], with the split dim in the middle.
struct COLONNADE_API Piece {
  int64_t outer = 1;
  int64_t whole_size = 1;  ///< Of the split dim.
  int64_t local_size = 1;  ///< The same, in the local tensor, with padding.
  int64_t inner = 1;
  std::vector<Span> spans;  ///< Ascending, without overlap.

  int64_t numel() const;  ///< Elements in the spans.
};

/// All of a tensor of `numel` elements.
COLONNADE_API Piece whole_piece(int64_t numel);

/// `ranges` of dim `dim` of a whole of shape `whole_shape`, one after the other
/// in a local tensor of `local_size` along it.
COLONNADE_API Piece make_piece(at::IntArrayRef whole_shape, int64_t dim,
                               std::span<const IndexRange> ranges,
                               int64_t local_size);

/// The part of `piece` within `ranges` (ascending), at the same places.
COLONNADE_API Piece restrict_to(const Piece& piece,
                                std::span<const IndexRange> ranges);

/// Indices of the flattened whole: all, or a stretch of the work.
inline constexpr IndexRange kEverywhere = {0,
                                           std::numeric_limits<int64_t>::max()};

/// Steps through the runs of what a piece has within `window`, in the order of
/// the whole.
class RunCursor {
 public:
  explicit RunCursor(const Piece& piece, IndexRange window = kEverywhere)
      : piece_(piece), end_(window.end) {
    const int64_t numel = piece.numel();
    done_ = numel == 0;
    if (piece.local_size == piece.whole_size && piece.spans.size() == 1 &&
        piece.spans[0].end - piece.spans[0].begin == piece.whole_size) {
      outer_ = piece.outer - 1;  // all of it, in one run
      clip({0, 0, numel});
    } else {
      settle();
    }
    skip_to(window.begin);
  }

  bool done() const { return done_; }
  const Run& run() const { return run_; }

  /// Goes past the first `count` elements of the run.
  void advance(int64_t count) {
    run_.whole += count;
    run_.local += count;
    run_.count -= count;
    if (run_.count == 0) {
      next();
    }
  }

  /// Goes to the first element at `whole` or behind it. Cost: a step a span.
  void skip_to(int64_t whole) {
    const int64_t slice = piece_.whole_size * piece_.inner;
    if (is_before(whole) && whole / slice > outer_) {
      outer_ = whole / slice;
      span_ = 0;
      done_ = outer_ >= piece_.outer;
      settle();
    }
    while (is_before(whole)) {
      next();
    }
    if (!done_ && run_.whole < whole) {
      advance(whole - run_.whole);
    }
  }

 private:
  bool is_before(int64_t whole) const {
    return !done_ && run_.whole + run_.count <= whole;
  }

  void next() {
    if (++span_ == piece_.spans.size()) {
      span_ = 0;
      done_ = ++outer_ == piece_.outer;
    }
    settle();
  }

  void settle() {
    if (!done_) {
      const Span& span = piece_.spans[span_];
      clip({(outer_ * piece_.whole_size + span.begin) * piece_.inner,
            (outer_ * piece_.local_size + span.at) * piece_.inner,
            (span.end - span.begin) * piece_.inner});
    }
  }

  void clip(Run run) {
    run.count = std::min(run.count, end_ - run.whole);
    run_ = run;
    done_ = done_ || run.count <= 0;
  }

  const Piece& piece_;
  int64_t end_;
  int64_t outer_ = 0;
  size_t span_ = 0;
  bool done_ = false;
  Run run_{};
};

template <typename F>
void for_each_run(const Piece& piece, IndexRange window, F&& f) {
  for (RunCursor at(piece, window); !at.done(); at.advance(at.run().count)) {
    f(at.run());
  }
}

template <typename F>
void for_each_run(const Piece& piece, F&& f) {
  for_each_run(piece, kEverywhere, std::forward<F>(f));
}

/// Calls f(place in a, place in b, count) for every stretch of elements that
/// lies in both pieces of one whole and in `window`, in its order. They may be
/// split along different dims.
template <typename F>
void for_each_overlap(const Piece& a, const Piece& b, IndexRange window,
                      F&& f) {
  RunCursor at_a(a, window);
  RunCursor at_b(b, window);
  while (!at_a.done() && !at_b.done()) {
    const Run run_a = at_a.run();
    const Run run_b = at_b.run();
    if (run_a.whole < run_b.whole) {
      at_a.skip_to(run_b.whole);
    } else if (run_b.whole < run_a.whole) {
      at_b.skip_to(run_a.whole);
    } else {
      const int64_t count = std::min(run_a.count, run_b.count);
      f(run_a.local, run_b.local, count);
      at_a.advance(count);
      at_b.advance(count);
    }
  }
}

template <typename F>
void for_each_overlap(const Piece& a, const Piece& b, F&& f) {
  for_each_overlap(a, b, kEverywhere, std::forward<F>(f));
}

/// Cuts a piece into windows of at most `count` of its elements each, in order.
/// Cost: a step a run.
COLONNADE_API std::vector<IndexRange> cut_windows(const Piece& piece,
                                                  int64_t count);

/// Indices in all of them together.
int64_t total_size(std::span<const IndexRange> ranges);

/// Indices [range) of a split dim, and the ranks that hold them.
struct Holding {
  IndexRange range;
  std::vector<int> holders;  ///< Ascending; empty where nobody holds them.
};

/// Divides [0, whole_size) wherever the set of holders changes.
COLONNADE_API std::vector<Holding> find_holders(
    int64_t whole_size, std::span<const std::vector<IndexRange>> ranks);

/// The ranges of which `rank` is the first holder, neighbours joined.
COLONNADE_API std::vector<IndexRange> first_held(
    std::span<const Holding> holdings, int rank);

}  // namespace colonnade::detail
