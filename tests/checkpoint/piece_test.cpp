// tests/checkpoint/piece_test.cpp
#include "colonnade/checkpoint/detail/piece.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

/// Whole index to local index, by brute force.
std::map<int64_t, int64_t> places(const std::vector<int64_t>& shape,
                                  const ShardSpec& spec) {
  int64_t inner = 1;
  for (size_t i = static_cast<size_t>(spec.dim) + 1; i < shape.size(); ++i) {
    inner *= shape[i];
  }
  int64_t numel = 1;
  for (const int64_t size : shape) {
    numel *= size;
  }
  std::map<int64_t, int64_t> result;
  for (int64_t whole = 0; whole < numel; ++whole) {
    const int64_t outer = whole / inner / spec.whole_size;
    const int64_t index = whole / inner % spec.whole_size;
    int64_t at = 0;
    for (const IndexRange& range : spec.ranges) {
      if (range.begin <= index && index < range.end) {
        result[whole] =
            (outer * spec.local_size + at + index - range.begin) * inner +
            whole % inner;
      }
      at += range.size();
    }
  }
  return result;
}

ShardSpec random_spec(const std::vector<int64_t>& shape, std::mt19937& chance) {
  ShardSpec spec;
  spec.dim = static_cast<int64_t>(chance() % shape.size());
  spec.whole_size = shape[static_cast<size_t>(spec.dim)];
  int64_t at = 0;
  while (at < spec.whole_size) {
    const int64_t begin = at + static_cast<int64_t>(chance() % 3);
    const int64_t end = std::min(
        spec.whole_size, begin + 1 + static_cast<int64_t>(chance() % 4));
    if (begin < end) {
      spec.ranges.push_back({begin, end});
    }
    at = std::max(at + 1, end);
  }
  spec.local_size = spec.held_size() + static_cast<int64_t>(chance() % 3);
  return spec;
}

TEST(Piece, RunsAndOverlapsAreThoseOfBruteForce) {
  std::mt19937 chance(1);
  for (int round = 0; round < 500; ++round) {
    std::vector<int64_t> shape;
    for (size_t dims = 1 + chance() % 3; shape.size() < dims;) {
      shape.push_back(static_cast<int64_t>(chance() % 8));
    }
    const ShardSpec a = random_spec(shape, chance);
    const ShardSpec b = random_spec(shape, chance);
    const Piece piece_a = make_piece(shape, a.dim, a.ranges, a.local_size);
    const Piece piece_b = make_piece(shape, b.dim, b.ranges, b.local_size);
    const auto places_a = places(shape, a);
    const auto places_b = places(shape, b);
    EXPECT_EQ(piece_a.numel(), static_cast<int64_t>(places_a.size()));

    std::map<int64_t, int64_t> runs;
    for_each_run(piece_a, [&](const detail::Run& run) {
      for (int64_t i = 0; i < run.count; ++i) {
        runs[run.whole + i] = run.local + i;
      }
    });
    EXPECT_EQ(runs, places_a) << to_string(a);

    std::map<int64_t, int64_t> want;
    for (const auto& [whole, local] : places_a) {
      if (places_b.contains(whole)) {
        want[local] = places_b.at(whole);
      }
    }
    std::map<int64_t, int64_t> got;
    for_each_overlap(piece_a, piece_b,
                     [&](int64_t at_a, int64_t at_b, int64_t count) {
                       for (int64_t i = 0; i < count; ++i) {
                         got[at_a + i] = at_b + i;
                       }
                     });
    EXPECT_EQ(got, want) << to_string(a) << " and " << to_string(b);
  }
}

/// Of [0, 600), in order, with steps of a few.
std::vector<IndexRange> random_windows(std::mt19937& chance) {
  std::vector<IndexRange> windows;
  for (int64_t at = 0; at < 600;) {
    const int64_t end = at + static_cast<int64_t>(chance() % 40);
    windows.push_back({at, end});
    at = end;
  }
  return windows;
}

TEST(Piece, WindowsAddUpToAllOfIt) {
  std::mt19937 chance(2);
  for (int round = 0; round < 500; ++round) {
    std::vector<int64_t> shape;
    for (size_t dims = 1 + chance() % 3; shape.size() < dims;) {
      shape.push_back(1 + static_cast<int64_t>(chance() % 8));
    }
    const ShardSpec a = random_spec(shape, chance);
    const ShardSpec b = random_spec(shape, chance);
    const Piece piece_a = make_piece(shape, a.dim, a.ranges, a.local_size);
    const Piece piece_b = make_piece(shape, b.dim, b.ranges, b.local_size);
    const auto overlap = [&](const std::vector<IndexRange>& windows) {
      std::vector<std::pair<int64_t, int64_t>> pairs;
      for (const IndexRange& window : windows) {
        for_each_overlap(piece_a, piece_b, window,
                         [&](int64_t at_a, int64_t at_b, int64_t count) {
                           for (int64_t i = 0; i < count; ++i) {
                             pairs.emplace_back(at_a + i, at_b + i);
                           }
                         });
      }
      return pairs;
    };
    EXPECT_EQ(overlap(random_windows(chance)), overlap({kEverywhere}));

    const auto cut = cut_windows(piece_a, 3);
    EXPECT_EQ(cut.size(), static_cast<size_t>((piece_a.numel() + 2) / 3));
    int64_t place = 0;
    for (const IndexRange& window : cut) {
      int64_t count = 0;
      for_each_run(piece_a, window, [&](const detail::Run& run) {
        EXPECT_LE(place, run.whole);
        place = run.whole + run.count;
        count += run.count;
      });
      EXPECT_TRUE(count == 3 || place == window.end) << to_string(a);
      EXPECT_LE(count, 3);
    }
    EXPECT_EQ(overlap(cut), overlap({kEverywhere}));
  }
}

TEST(Piece, FindsHoldersAndGaps) {
  const std::vector<std::vector<IndexRange>> ranks = {
      {{0, 4}}, {{2, 6}}, {{8, 10}}};
  const auto holdings = find_holders(10, ranks);
  ASSERT_EQ(holdings.size(), 5);
  EXPECT_EQ(holdings[0].holders, (std::vector<int>{0}));
  EXPECT_EQ(holdings[1].range, (IndexRange{2, 4}));
  EXPECT_EQ(holdings[1].holders, (std::vector<int>{0, 1}));
  EXPECT_TRUE(holdings[3].holders.empty());
  EXPECT_EQ(first_held(holdings, 0), (std::vector<IndexRange>{{0, 4}}));
  EXPECT_EQ(first_held(holdings, 1), (std::vector<IndexRange>{{4, 6}}));
}

}  // namespace
}  // namespace colonnade::detail
