// tests/comm/random_programs_test.cpp
#include "colonnade/comm/group.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/reference.h"
#include "tests/comm/world_group.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

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

void run_program(const Program& program, int rank) {
  const GroupPtr all = make_world_group();
  GroupPtr pair;
  if (has_pair(program.ranks, rank)) {
    pair = make_group({rank / 2 * 2, rank / 2 * 2 + 1}, "pair");
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

/// The ranks that `text` names: "rank 1", "ranks 0, 2 and 3".
std::set<int> ranks_in(const std::string& text) {
  static const std::regex list("ranks? ([0-9]+((, | and )[0-9]+)*)");
  static const std::regex number("[0-9]+");
  std::set<int> ranks;
  for (std::sregex_iterator i(text.begin(), text.end(), list), end; i != end;
       ++i) {
    const std::string numbers = (*i)[1];
    for (std::sregex_iterator j(numbers.begin(), numbers.end(), number);
         j != end; ++j) {
      ranks.insert(std::stoi(j->str()));
    }
  }
  return ranks;
}

constexpr uint32_t kPrograms = 1000;

TEST(RandomPrograms, WithoutFaultMatchOneThread) {
  for (uint32_t seed = 0; seed < kPrograms; ++seed) {
    const Program program = random_program(seed, /*with_fault=*/false);
    ASSERT_NO_THROW(
        run_ranks(program.ranks, [&](int rank) { run_program(program, rank); }))
        << "seed " << seed;
  }
}

TEST(RandomPrograms, WithOneFaultEndOnEveryRankAndNameIt) {
  using Clock = std::chrono::steady_clock;
  for (uint32_t seed = 0; seed < kPrograms; ++seed) {
    const Program program = random_program(seed, /*with_fault=*/true);
    const auto start = Clock::now();
    std::vector<std::string> errors(static_cast<size_t>(program.ranks));
    try {
      run_ranks(program.ranks, [&](int rank) {
        try {
          run_program(program, rank);
        } catch (const CommError& error) {
          errors[static_cast<size_t>(rank)] = error.what();
          throw;
        }
      });
      ADD_FAILURE() << "seed " << seed << ": no error";
    } catch (const std::out_of_range&) {
      EXPECT_EQ(program.fault, Fault::kThrow) << "seed " << seed;
    } catch (const CommError&) {
      EXPECT_NE(program.fault, Fault::kThrow) << "seed " << seed;
    }
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(2)) << "seed " << seed;
    const bool is_gone =
        program.fault == Fault::kThrow || program.fault == Fault::kReturn;
    for (int rank = 0; rank < program.ranks; ++rank) {
      const std::string& error = errors[static_cast<size_t>(rank)];
      if (is_gone && rank == program.rank_at_fault) {
        EXPECT_EQ(error, "");
        continue;
      }
      EXPECT_EQ(ranks_in(error).count(program.rank_at_fault), 1U)
          << "seed " << seed << ", rank " << rank << ", fault of rank "
          << program.rank_at_fault << ": " << error;
    }
    if (HasFailure()) {
      break;  // one program is enough to look at
    }
  }
}

}  // namespace
}  // namespace colonnade
