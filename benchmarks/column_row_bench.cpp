// benchmarks/column_row_bench.cpp
// A column and a row layer, as in an MLP, forward and backward: two ranks
// beside one core and beside torch::nn on one and two intra-op threads.
#include "benchmarks/contest.h"
#include "colonnade/launch/launch.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/linear.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;
using at::Tensor;
using Clock = std::chrono::steady_clock;

constexpr int kWarmUps = 1;
constexpr int kRepeats = 3;

struct Shape {
  int64_t tokens;
  int64_t hidden;
};

/// The first output's sum of every contestant, which must agree.
void check_sum(const Shape& shape, double sum) {
  static double want = 0;
  static int64_t of = 0;
  if (of != shape.tokens * shape.hidden) {
    of = shape.tokens * shape.hidden;
    want = sum;
  }
  if (!(std::abs(sum - want) <= 1e-3 * std::abs(want))) {
    std::fprintf(stderr, "contestants disagree: %.9g and %.9g\n", want, sum);
    std::exit(1);
  }
}

/// Seconds of one forward and backward pass through `up` and `down`. `wait`
/// returns when every rank is there.
template <typename Up, typename Down, typename Wait>
double time_pair(const Shape& shape, Up up, Down down, Wait wait) {
  const Tensor input = at::linspace(-1, 1, shape.tokens * shape.hidden)
                           .view({1, shape.tokens, shape.hidden});
  Tensor x = input.clone().set_requires_grad(true);
  Clock::time_point start;
  for (int i = 0; i < kWarmUps + kRepeats; ++i) {
    if (i == kWarmUps) {
      wait();
      start = Clock::now();
    }
    const Tensor y = down(at::gelu(up(x)));
    y.backward(input);
    if (i == 0) {
      check_sum(shape, y.square().sum().item<double>());
    }
    for (Tensor* tensor : {&x, &up->weight, &down->weight}) {
      tensor->mutable_grad() = Tensor();
    }
  }
  wait();
  return std::chrono::duration<double>(Clock::now() - start).count() / kRepeats;
}

double time_parallel(const Shape& shape, int ranks) {
  double seconds = 0;
  run_ranks(ranks, [&](int rank) {
    at::set_num_threads(1);
    ps::initialize_model_parallel(ranks);
    manual_seed(1);
    pl::ColumnParallelLinear up(
        pl::ColumnParallelLinearOptions(shape.hidden, 4 * shape.hidden)
            .gather_output(false));
    pl::RowParallelLinear down(
        pl::RowParallelLinearOptions(4 * shape.hidden, shape.hidden)
            .input_is_parallel(true));
    const GroupPtr group = ps::get_tensor_model_parallel_group();
    const double own = time_pair(shape, up, down, [&] { group->barrier(); });
    if (rank == 0) {
      seconds = own;
    }
  });
  return seconds;
}

double time_torch(const Shape& shape, int threads) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  manual_seed(1);
  torch::nn::Linear up(shape.hidden, 4 * shape.hidden);
  torch::nn::Linear down(4 * shape.hidden, shape.hidden);
  const double seconds = time_pair(shape, up, down, [] {});
  at::set_num_threads(before);
  return seconds;
}

}  // namespace
}  // namespace colonnade

int main() {
  colonnade::install_caching_allocator();  // for every contestant
  for (const colonnade::Shape shape :
       {colonnade::Shape{512, 1024}, {1024, 256}, {16, 1024}}) {
    colonnade::bench::contest(
        "column + row, hidden " + std::to_string(shape.hidden) + ", " +
            std::to_string(shape.tokens) + " tokens, fp32",
        {{"one core (TP=1)", [=] { return time_parallel(shape, 1); }},
         {"two ranks (TP=2)", [=] { return time_parallel(shape, 2); }},
         {"torch::nn, 1 thread", [=] { return time_torch(shape, 1); }},
         {"torch::nn, 2 threads", [=] { return time_torch(shape, 2); }}},
        /*rounds=*/5);
  }
}
