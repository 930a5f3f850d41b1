// benchmarks/all_reduce_bench.cpp
//
// All-reduce of two thread ranks beside the memory's limit: the same bytes of
// both buffers read once and written once, half of them across the cores, by
// memcpy and without any waiting.
#include "benchmarks/measure.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <vector>

namespace colonnade::bench {
namespace {

constexpr int kRanks = 2;

void expect(bool ok, const char* what) {
  check<Error>(ok, "all_reduce_bench: ", what, " left wrong values");
}

/// Swaps `bytes` of `a` and `b`, in pieces that the compiler can inline.
void swap_bytes(std::byte* a, std::byte* b, size_t bytes) {
  std::array<std::byte, 128> from_a;
  std::array<std::byte, 128> from_b;
  size_t i = 0;
  for (; i + from_a.size() <= bytes; i += from_a.size()) {
    std::memcpy(from_a.data(), a + i, from_a.size());
    std::memcpy(from_b.data(), b + i, from_b.size());
    std::memcpy(a + i, from_b.data(), from_b.size());
    std::memcpy(b + i, from_a.data(), from_a.size());
  }
  std::swap_ranges(a + i, a + bytes, b + i);
}

/// A buffer a rank.
struct Buffers {
  Buffers(int64_t bytes, at::ScalarType dtype) {
    for (at::Tensor& x : of_rank) {
      x = at::zeros({bytes / static_cast<int64_t>(c10::elementSize(dtype))},
                    dtype);
    }
  }
  std::array<at::Tensor, kRanks> of_rank;
};

Contender all_reduce_of(const Buffers& buffers, int rank) {
  at::Tensor x = buffers.of_rank[static_cast<size_t>(rank)];
  const GroupPtr group =
      RankContext::current()->world()->make_group("all", {0, 1});
  return {[x, rank]() mutable { x.fill_(rank + 1); },
          [x, group]() mutable { group->all_reduce(x); },
          [x] { expect(x.eq(3).all().item<bool>(), "all_reduce"); }};
}

Contender limit_of(const Buffers& buffers, int rank) {
  at::Tensor x = buffers.of_rank[static_cast<size_t>(rank)];
  const auto bytes_of = [](const at::Tensor& t) {
    return static_cast<std::byte*>(t.mutable_data_ptr());
  };
  const size_t half = x.nbytes() / kRanks;
  std::byte* const a = bytes_of(buffers.of_rank[0]) + rank * half;
  std::byte* const b = bytes_of(buffers.of_rank[1]) + rank * half;
  return {[x, rank]() mutable { x.fill_(rank + 1); },
          [a, b, half] { swap_bytes(a, b, half); },
          [x, rank] { expect(x.eq(2 - rank).all().item<bool>(), "swap"); }};
}

void measure(int64_t bytes) {
  const Buffers floats(bytes, at::kFloat);
  const Buffers shorts(bytes, at::kBFloat16);
  const int calls = bytes <= 65536 ? 200 : bytes <= (4 << 20) ? 20 : 5;
  const RaceResult result = race(kRanks, /*rounds=*/15, calls, [&](int rank) {
    return std::vector<Contender>{all_reduce_of(floats, rank),
                                  all_reduce_of(shorts, rank),
                                  limit_of(floats, rank)};
  });
  const Spread& sum = result.seconds[0];
  const Spread& limit = result.seconds[2];
  std::printf("%8s %9s %9s - %-9s %9s %9s %9s - %-9s %6.2f %9.2f\n",
              bytes_text(static_cast<double>(bytes)).c_str(),
              seconds_text(sum.median).c_str(), seconds_text(sum.low).c_str(),
              seconds_text(sum.high).c_str(),
              seconds_text(result.seconds[1].median).c_str(),
              seconds_text(limit.median).c_str(),
              seconds_text(limit.low).c_str(), seconds_text(limit.high).c_str(),
              limit.median / sum.median, result.capacity.median);
  std::fflush(stdout);
}

}  // namespace
}  // namespace colonnade::bench

int main() {
  std::printf(
      "all_reduce of 2 thread ranks, the slowest rank; median, and bounds of "
      "the middle half.\nlimit: both buffers read and written once by memcpy, "
      "without waiting. of limit: limit / float32.\ncapacity: cores' worth of "
      "arithmetic the two ranks got (2 when nothing else runs).\n\n"
      "%8s %9s %21s %9s %9s %21s %6s %9s\n",
      "bytes", "float32", "", "bfloat16", "limit", "", "of lim", "capacity");
  for (const int64_t bytes : {8, 64, 512, 4096, 8192, 32768, 65536, 262144,
                              1 << 20, 4 << 20, 16 << 20, 64 << 20}) {
    colonnade::bench::measure(bytes);
  }
}
