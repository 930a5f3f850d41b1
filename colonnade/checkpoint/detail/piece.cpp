// colonnade/checkpoint/detail/piece.cpp
#include "colonnade/checkpoint/detail/piece.h"

#include <set>

namespace colonnade::detail {

int64_t Piece::numel() const {
  int64_t size = 0;
  for (const Span& span : spans) {
    size += span.end - span.begin;
  }
  return outer * size * inner;
}

Piece whole_piece(int64_t numel) {
  Piece piece;
  piece.inner = numel;
  piece.spans = {{0, 1, 0}};
  return piece;
}

Piece make_piece(at::IntArrayRef whole_shape, int64_t dim,
                 std::span<const IndexRange> ranges, int64_t local_size) {
  Piece piece;
  for (size_t i = 0; i < whole_shape.size(); ++i) {
    (static_cast<int64_t>(i) < dim ? piece.outer : piece.inner) *=
        static_cast<int64_t>(i) == dim ? 1 : whole_shape[i];
  }
  piece.whole_size = whole_shape[static_cast<size_t>(dim)];
  piece.local_size = local_size;
  int64_t at = 0;
  for (const IndexRange& range : ranges) {
    if (range.size() > 0) {
      piece.spans.push_back({range.begin, range.end, at});
    }
    at += range.size();
  }
  return piece;
}

Piece restrict_to(const Piece& piece, std::span<const IndexRange> ranges) {
  Piece part = piece;
  part.spans.clear();
  for (const Span& span : piece.spans) {
    for (const IndexRange& range : ranges) {
      const int64_t begin = std::max(span.begin, range.begin);
      const int64_t end = std::min(span.end, range.end);
      if (begin < end) {
        part.spans.push_back({begin, end, span.at + begin - span.begin});
      }
    }
  }
  return part;
}

std::vector<IndexRange> cut_windows(const Piece& piece, int64_t count) {
  std::vector<IndexRange> windows;
  int64_t room = 0;
  for (RunCursor at(piece); !at.done();) {
    if (room == 0) {
      room = count;
      windows.push_back({at.run().whole, at.run().whole});
    }
    const int64_t step = std::min(room, at.run().count);
    windows.back().end = at.run().whole + step;
    room -= step;
    at.advance(step);
  }
  return windows;
}

int64_t total_size(std::span<const IndexRange> ranges) {
  int64_t size = 0;
  for (const IndexRange& range : ranges) {
    size += range.size();
  }
  return size;
}

std::vector<Holding> find_holders(
    int64_t whole_size, std::span<const std::vector<IndexRange>> ranks) {
  std::set<int64_t> cuts = {0, whole_size};
  for (const auto& ranges : ranks) {
    for (const IndexRange& range : ranges) {
      cuts.insert(range.begin);
      cuts.insert(range.end);
    }
  }
  std::vector<Holding> holdings;
  for (auto cut = cuts.begin(); std::next(cut) != cuts.end(); ++cut) {
    Holding holding{{*cut, *std::next(cut)}, {}};
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      for (const IndexRange& range : ranks[rank]) {
        if (range.begin <= holding.range.begin &&
            holding.range.end <= range.end) {
          holding.holders.push_back(static_cast<int>(rank));
        }
      }
    }
    holdings.push_back(std::move(holding));
  }
  return holdings;
}

std::vector<IndexRange> first_held(std::span<const Holding> holdings,
                                   int rank) {
  std::vector<IndexRange> ranges;
  for (const Holding& holding : holdings) {
    if (holding.holders.empty() || holding.holders.front() != rank) {
      continue;
    }
    if (!ranges.empty() && ranges.back().end == holding.range.begin) {
      ranges.back().end = holding.range.end;
    } else {
      ranges.push_back(holding.range);
    }
  }
  return ranges;
}

}  // namespace colonnade::detail
