// tests/comm/random_program.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/world.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace colonnade {

/// One call of a program; every rank of its group makes it.
struct Step {
  Collective collective;
  ReduceOp reduce;
  at::ScalarType dtype;
  int64_t n;
  int root;
  bool on_pair;  ///< On this rank's pair {0, 1} or {2, 3}, else on all.

  bool operator==(const Step&) const = default;
};

enum class Fault { kNone, kShape, kDtype, kOp, kOrder, kRoot, kThrow, kReturn };

struct Program {
  int ranks;
  std::vector<Step> steps;
  Fault fault;
  int rank_at_fault;
  size_t step_at_fault;
};

/// A program of 2 to 4 ranks, at most one of which goes wrong once.
Program random_program(uint32_t seed, bool with_fault);

/// Makes this rank's calls, on groups of its own, and compares what they give
/// with one thread's results. The world has `program.ranks` ranks.
void run_program(const Program& program, World& world);

}  // namespace colonnade
