// benchmarks/guard_bench.cpp
//
// What it costs that every call is checked, noted, named by its layer and
// compared, in the training step of a tiny Llama on two thread ranks. It is
// part of each call and cannot be left out, so it is timed by itself, in one
// thread, and multiplied with the calls of a step.
#include "benchmarks/measure.h"
#include "colonnade/comm/backend.h"
#include "colonnade/comm/call_site.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/name_layers.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/optim/adamw.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace colonnade::bench {
namespace {

namespace ps = parallel_state;
using Clock = std::chrono::steady_clock;

constexpr int kRanks = 2;
constexpr int kSteps = 20;
constexpr int kCalls = 20000;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Of one call: the scope of a layer and all that the front of a group does, as
/// a group of one exchanges nothing, then a copy for another rank and the
/// comparison with it.
double time_guard() {
  const GroupPtr group = find_backend("self")
                             .make_local_worlds(1, kDefaultTimeout)
                             .at(0)
                             ->make_group("guard", {0});
  at::Tensor x = at::zeros({2, 16, 48});
  const CallSite layer("layer model.layers.1.mlp.down_proj");
  Call theirs;
  int equal = 0;
  const auto start = Clock::now();
  for (int i = 0; i < kCalls; ++i) {
    const CallSiteScope scope(layer);
    group->all_reduce(x);
    const Call& mine = group->calls().latest().call;
    equal += i == 0 || theirs.key == mine.key ? 1 : 0;
    theirs = mine;
  }
  const double seconds = seconds_since(start) / kCalls;
  check<Error>(equal == kCalls && group->calls().begun() == kCalls &&
                   theirs.site.text() == layer.text(),
               "guard: calls are not noted");
  return seconds;
}

struct Step {
  double seconds = 0;
  double calls = 0;
};

Step time_step() {
  Step result;
  run_ranks(kRanks, [&](int rank) {
    at::set_num_threads(1);
    ps::initialize_model_parallel(kRanks);
    manual_seed(1);
    Llama model(LlamaOptions(96).hidden_size(48).num_layers(2).num_heads(12));
    parallel_layers::name_layers(*model);
    torch::optim::AdamW optimizer(model->parameters(), 1e-3);
    const at::Tensor ids = at::arange(2 * 17).remainder(96).view({2, 17});
    const GroupPtr group = ps::get_tensor_model_parallel_group();
    const auto step = [&] {
      optimizer.zero_grad();
      model->loss(ids.narrow(1, 0, 16), ids.narrow(1, 1, 16)).backward();
      optimizer.step();
    };
    step();
    group->barrier();
    const uint64_t before = group->calls().begun();
    const auto start = Clock::now();
    for (int i = 0; i < kSteps; ++i) {
      step();
    }
    group->barrier();
    if (rank == 0) {
      result = {seconds_since(start) / kSteps,
                static_cast<double>(group->calls().begun() - before) / kSteps};
    }
  });
  return result;
}

void run(int rounds) {
  std::vector<double> guards;
  std::vector<double> steps;
  std::vector<double> parts;
  double calls = 0;
  for (int round = 0; round < rounds; ++round) {
    guards.push_back(time_guard());
    const Step step = time_step();
    calls = step.calls;
    steps.push_back(step.seconds);
    parts.push_back(100 * guards.back() * step.calls / step.seconds);
  }
  const Spread guard = spread_of(guards);
  const Spread step = spread_of(steps);
  const Spread part = spread_of(parts);
  std::printf(
      "guard: Llama, hidden 48, 2 layers, 2 x 16 tokens, 2 thread ranks, %d "
      "rounds, median (quartiles)\n"
      "  checking, noting, comparing a call     %s\n"
      "  a training step of %.0f calls           %s\n"
      "  its part of the step                  %.3f %% (%.3f-%.3f)\n",
      rounds, spread_text(guard).c_str(), calls, spread_text(step).c_str(),
      part.median, part.low, part.high);
}

}  // namespace
}  // namespace colonnade::bench

int main(int argc, char** argv) {
  colonnade::bench::run(argc > 1 ? std::atoi(argv[1]) : 7);
}
