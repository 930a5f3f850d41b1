// tests/comm/random_program.cpp
#include "tests/comm/random_program.h"

#include "tests/comm/reference.h"

#include <ATen/ATen.h>

#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>

namespace colonnade {
namespace {

class Dice {
 public:
  explicit Dice(uint32_t seed) : engine_(seed) {}
  int below(int n) {
    return static_cast<int>(engine_() % static_cast<uint32_t>(n));
  }

 private:
  std::mt19937 engine_;
};

bool has_pair(int ranks, int rank) {
  return (rank | 1) < ranks;
}

Step random_step(Dice& dice, int ranks) {
  constexpr Collective kCollectives[] = {
      Collective::kAllReduce,     Collective::kAllGather,
      Collective::kReduceScatter, Collective::kBroadcast,
      Collective::kAllToAll,      Collective::kBarrier};
  constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf,
                                        at::kDouble, at::kLong};
  constexpr int64_t kSizes[] = {1, 5, 64, 1000, 5000};
  const bool on_pair = dice.below(3) == 0;
  return {kCollectives[dice.below(6)],     static_cast<ReduceOp>(dice.below(3)),
          kDtypes[dice.below(5)],          kSizes[dice.below(5)],
          dice.below(on_pair ? 2 : ranks), on_pair};
}

/// The step as the rank at fault makes it.
Step wrong(Step step, Fault fault, int size) {
  switch (fault) {
    case Fault::kShape:
      step.n += 1;
      break;
    case Fault::kDtype:
      step.dtype = step.dtype == at::kFloat ? at::kInt : at::kFloat;
      break;
    case Fault::kOp:
      step.collective = step.collective == Collective::kAllGather
                            ? Collective::kAllToAll
                            : Collective::kAllGather;
      break;
    case Fault::kRoot:
      step.root = (step.root + 1) % size;
      break;
    default:
      break;
  }
  return step;
}

/// Makes the call, and compares what it gives with one thread's result.
void make_call(Group& group, const Step& step) {
  const int64_t size = group.size();
  const int64_t rank = group.rank();
  const int root = step.root % group.size();
  const int64_t n = step.n;
  at::Tensor got;
  at::Tensor want;
  switch (step.collective) {
    case Collective::kAllReduce:
      got = values(rank, n, step.dtype);
      group.all_reduce(got, step.reduce);
      want = combined(all_values(values, size, n, step.dtype), step.reduce);
      break;
    case Collective::kReduceScatter:
      got = at::empty({n}, step.dtype);
      group.reduce_scatter(got, values(rank, size * n, step.dtype),
                           step.reduce);
      want =
          combined(all_values(values, size, size * n, step.dtype), step.reduce)
              .narrow(0, rank * n, n);
      break;
    case Collective::kAllGather:
      got = at::empty({size, n}, step.dtype);
      group.all_gather(got, values(rank, n, step.dtype));
      want = at::stack(all_values(values, size, n, step.dtype));
      break;
    case Collective::kBroadcast:
      got = values(rank, n, step.dtype);
      group.broadcast(got, root);
      want = values(root, n, step.dtype);
      break;
    case Collective::kAllToAll:
      got = at::empty({size, n}, step.dtype);
      group.all_to_all(got, values(rank, size * n, step.dtype));
      want = at::stack(all_values(values, size, size * n, step.dtype))
                 .narrow(1, rank * n, n);
      break;
    default:
      group.barrier();
      return;
  }
  if (!at::equal(got, want)) {
    throw std::logic_error("a call gave a wrong result");
  }
}

/// A new group of the ranks [begin, end).
GroupPtr group_of(World& world, int begin, int end, const char* name) {
  std::vector<int64_t> ranks(static_cast<size_t>(end - begin));
  std::iota(ranks.begin(), ranks.end(), begin);
  return world.make_group(name, std::move(ranks));
}

}  // namespace

Program random_program(uint32_t seed, bool with_fault) {
  Dice dice(seed);
  Program program{2 + dice.below(3), {}, Fault::kNone, -1, 0};
  const int length = 2 + dice.below(6);
  for (int i = 0; i < length; ++i) {
    program.steps.push_back(random_step(dice, program.ranks));
  }
  // The end, at which every rank hears of a failure.
  program.steps.push_back({Collective::kBarrier, ReduceOp::kSum, at::kByte, 0,
                           0, /*on_pair=*/false});
  if (!with_fault) {
    return program;
  }
  program.fault = static_cast<Fault>(1 + dice.below(7));
  program.rank_at_fault = dice.below(program.ranks);
  program.step_at_fault = static_cast<size_t>(dice.below(length));
  Step& step = program.steps[program.step_at_fault];
  step.on_pair &= has_pair(program.ranks, program.rank_at_fault);
  if (program.fault == Fault::kRoot) {
    step.collective = Collective::kBroadcast;
  } else if (program.fault == Fault::kShape || program.fault == Fault::kDtype) {
    step.collective = Collective::kAllGather;
  } else if (program.fault == Fault::kOrder) {
    // The next must differ, and be one that this rank makes too.
    step.collective = Collective::kAllReduce;
    program.steps[program.step_at_fault + 1] = program.steps.back();
  }
  return program;
}

void run_program(const Program& program, World& world) {
  const int rank = world.rank();
  const GroupPtr all = group_of(world, 0, program.ranks, "all");
  GroupPtr pair;
  if (has_pair(program.ranks, rank)) {
    pair = group_of(world, rank / 2 * 2, rank / 2 * 2 + 2, "pair");
  }
  const bool at_fault =
      program.fault != Fault::kNone && rank == program.rank_at_fault;
  std::vector<Step> steps = program.steps;
  if (at_fault && program.fault == Fault::kOrder) {
    std::swap(steps[program.step_at_fault], steps[program.step_at_fault + 1]);
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    Step step = steps[i];
    if (step.on_pair && pair == nullptr) {
      continue;
    }
    Group& group = step.on_pair ? *pair : *all;
    if (at_fault && i == program.step_at_fault) {
      if (program.fault == Fault::kThrow) {
        throw std::out_of_range("a fault");
      }
      if (program.fault == Fault::kReturn) {
        return;
      }
      step = wrong(step, program.fault, group.size());
    }
    make_call(group, step);
  }
}

}  // namespace colonnade
