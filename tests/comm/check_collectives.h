// tests/comm/check_collectives.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/error.h"
#include "tests/comm/reference.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace colonnade {

inline void expect_same(const at::Tensor& got, const at::Tensor& want,
                        const std::string& what) {
  EXPECT_TRUE(at::equal(got.cpu(), want)) << what << " differs";
}

/// Of a device, where the order of a sum is its library's: as good as that.
inline void expect_sum(const at::Tensor& got, const at::Tensor& want,
                       const std::string& what) {
  if (got.is_cpu()) {
    expect_same(got, want, what);
    return;
  }
  const double rounding = want.scalar_type() == at::kBFloat16 ? 0.02
                          : want.scalar_type() == at::kHalf   ? 0.003
                                                              : 1e-6;
  EXPECT_TRUE(at::allclose(got.cpu(), want, rounding, rounding))
      << what << " differs";
}

inline std::vector<ReduceOp> reductions_of(at::ScalarType dtype, bool bits) {
  if (bits && at::isIntegralType(dtype, /*includeBool=*/false)) {
    return {ReduceOp::kSum,     ReduceOp::kMax,    ReduceOp::kMin,
            ReduceOp::kProduct, ReduceOp::kBitAnd, ReduceOp::kBitOr,
            ReduceOp::kBitXor};
  }
  return {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin, ReduceOp::kProduct};
}

/// All collectives on `group`, with `n` elements (a rank, where a collective
/// makes more of them) on `device`, against what one thread computes.
///
/// bits  whether it combines bits, too
inline void check_collectives(Group& group, int64_t n, at::ScalarType dtype,
                              at::Device device = at::kCPU, bool bits = true) {
  const int64_t size = group.size();
  const auto options = at::TensorOptions(dtype).device(device);
  const int rank = group.rank();
  const std::string what = concat(at::toString(dtype), " x ", n, " on ", size);
  const bool reducible = dtype != at::kBool;

  for (const Make make : {values, fractions}) {
    if (!reducible || (make == fractions && !at::isFloatingType(dtype))) {
      continue;
    }
    for (const ReduceOp op : reductions_of(dtype, bits)) {
      at::Tensor x = make(rank, n, dtype).to(device);
      group.all_reduce(x, op);
      expect_sum(x, combined(all_values(make, size, n, dtype), op),
                 "all_reduce of " + what);
    }
    at::Tensor out = at::empty({n}, options);
    group.reduce_scatter(out, make(rank, n * size, dtype).to(device));
    const at::Tensor sum =
        combined(all_values(make, size, n * size, dtype), ReduceOp::kSum);
    expect_sum(out, sum.narrow(0, rank * n, n), "reduce_scatter of " + what);
  }

  at::Tensor gathered = at::empty({size, n}, options);
  group.all_gather(gathered, values(rank, n, dtype).to(device));
  expect_same(gathered, at::stack(all_values(values, size, n, dtype)),
              "all_gather of " + what);

  for (int root = 0; root < size; ++root) {
    at::Tensor x = values(rank, n, dtype).to(device);
    group.broadcast(x, root);
    expect_same(x, values(root, n, dtype), "broadcast of " + what);
  }

  at::Tensor exchanged = at::empty({size, n}, options);
  group.all_to_all(exchanged, values(rank, size * n, dtype).to(device));
  for (int64_t from = 0; from < size; ++from) {
    expect_same(exchanged[from],
                values(from, size * n, dtype).narrow(0, rank * n, n),
                "all_to_all of " + what);
  }

  if (size > 1) {  // around a ring; the even ranks send first
    const int next = static_cast<int>((rank + 1) % size);
    const int previous = static_cast<int>((rank + size - 1) % size);
    at::Tensor received = at::empty({n}, options);
    if (rank % 2 == 0 && rank + 1 < size) {
      group.send(values(rank, n, dtype).to(device), next);
      group.recv(received, previous);
    } else {
      group.recv(received, previous);
      group.send(values(rank, n, dtype).to(device), next);
    }
    expect_same(received, values(previous, n, dtype), "send of " + what);
  }
  group.barrier();
}

}  // namespace colonnade
