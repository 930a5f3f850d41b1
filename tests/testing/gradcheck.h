// tests/testing/gradcheck.h
#pragma once

#include "colonnade/comm/group.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace colonnade::testing {

/// What the ranks' tensors are to the whole program.
enum class Placement {
  kReplicated,  ///< One tensor, equal on every rank.
  kPerRank,     ///< Each rank's own: a shard, or a part of a sum.
};

struct Placed {
  at::Tensor tensor;  ///< Double.
  Placement placement;
};

/// A function that every rank calls together.
struct RankFunction {
  std::function<at::Tensor(const std::vector<at::Tensor>&)> call;
  Placement output;
};

/// Expects the gradients that autograd gives for `f` on every rank to be the
/// finite differences of the whole program: of the output's product with
/// constants, summed over ranks where the output is each rank's own. A
/// replicated input changes on all ranks at once. Collective over `group`; run
/// at small sizes, each element costs two calls.
void gradcheck(const RankFunction& f, const std::vector<Placed>& inputs,
               const GroupPtr& group, const std::string& what = "");

/// gradcheck of the gradients of `f` as functions of its inputs and of the
/// gradient that comes in: second derivatives.
void gradgradcheck(const RankFunction& f, const std::vector<Placed>& inputs,
                   const GroupPtr& group, const std::string& what = "");

}  // namespace colonnade::testing
