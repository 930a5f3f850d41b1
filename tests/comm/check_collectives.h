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
  EXPECT_TRUE(at::equal(got, want)) << what << " differs";
}

inline std::vector<ReduceOp> reductions_of(at::ScalarType dtype) {
  std::vector<ReduceOp> ops = {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin,
                               ReduceOp::kProduct};
  if (at::isIntegralType(dtype, /*includeBool=*/false)) {
    ops.insert(ops.end(),
               {ReduceOp::kBitAnd, ReduceOp::kBitOr, ReduceOp::kBitXor});
  }
  return ops;
}

/// All collectives on `group`, with `n` elements (a rank, where a collective
/// makes more of them), against what one thread computes.
inline void check_collectives(Group& group, int64_t n, at::ScalarType dtype) {
  const int64_t size = group.size();
  const int rank = group.rank();
  const std::string what = concat(at::toString(dtype), " x ", n, " on ", size);
  const bool reducible = dtype != at::kBool;

  for (const Make make : {values, fractions}) {
    if (!reducible || (make == fractions && !at::isFloatingType(dtype))) {
      continue;
    }
    for (const ReduceOp op : reductions_of(dtype)) {
      at::Tensor x = make(rank, n, dtype);
      group.all_reduce(x, op);
      expect_same(x, combined(all_values(make, size, n, dtype), op),
                  "all_reduce of " + what);
    }
    at::Tensor out = at::empty({n}, dtype);
    group.reduce_scatter(out, make(rank, n * size, dtype));
    const at::Tensor sum =
        combined(all_values(make, size, n * size, dtype), ReduceOp::kSum);
    expect_same(out, sum.narrow(0, rank * n, n), "reduce_scatter of " + what);
  }

  at::Tensor gathered = at::empty({size, n}, dtype);
  group.all_gather(gathered, values(rank, n, dtype));
  expect_same(gathered, at::stack(all_values(values, size, n, dtype)),
              "all_gather of " + what);

  for (int root = 0; root < size; ++root) {
    at::Tensor x = values(rank, n, dtype);
    group.broadcast(x, root);
    expect_same(x, values(root, n, dtype), "broadcast of " + what);
  }

  at::Tensor exchanged = at::empty({size, n}, dtype);
  group.all_to_all(exchanged, values(rank, size * n, dtype));
  for (int64_t from = 0; from < size; ++from) {
    expect_same(exchanged[from],
                values(from, size * n, dtype).narrow(0, rank * n, n),
                "all_to_all of " + what);
  }

  if (size > 1) {  // around a ring; the even ranks send first
    const int next = static_cast<int>((rank + 1) % size);
    const int previous = static_cast<int>((rank + size - 1) % size);
    at::Tensor received = at::empty({n}, dtype);
    if (rank % 2 == 0 && rank + 1 < size) {
      group.send(values(rank, n, dtype), next);
      group.recv(received, previous);
    } else {
      group.recv(received, previous);
      group.send(values(rank, n, dtype), next);
    }
    expect_same(received, values(previous, n, dtype), "send of " + what);
  }
  group.barrier();
}

}  // namespace colonnade
