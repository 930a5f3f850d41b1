// benchmarks/process_steps.cpp
//
// A training step of a small Llama on two ranks: over threads, shared memory
// and Gloo, in turn:
//
//   mpirun -n 2 --bind-to core process_steps [ROUNDS]
//
// Sums are in rank order on all of them, so the losses must have the same bits.
#include "benchmarks/measure.h"
#include "benchmarks/process_pair.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/clip_grad_norm.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/random/rank_random.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/optim/adamw.h>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::bench {
namespace {

namespace ps = parallel_state;
using Clock = std::chrono::steady_clock;

constexpr std::array kNames = {"threads", "shm", "gloo"};
constexpr int kSteps = 10;

/// One size of model, and of what it is trained on.
struct Size {
  const char* name;
  int64_t hidden, layers, batch, sequence;
};
constexpr std::array kSizes = {
    Size{"hidden 128, 2 layers, 2 x 64 tokens", 128, 2, 2, 64},
    Size{"hidden 256, 4 layers, 2 x 128 tokens", 256, 4, 2, 128}};

/// One rank's model, in the context that it was made in.
struct Trainee {
  explicit Trainee(const Size& size)
      : ids(at::arange(size.batch * (size.sequence + 1))
                .mul(7919)
                .remainder(1024)
                .view({size.batch, size.sequence + 1})) {
    ps::initialize_model_parallel(kRanks);
    manual_seed(1);
    model = Llama(LlamaOptions(1024)
                      .hidden_size(size.hidden)
                      .num_layers(size.layers)
                      .num_heads(4));
    optimizer =
        std::make_unique<torch::optim::AdamW>(model->parameters(), 1e-3);
  }

  void step() {
    optimizer->zero_grad();
    const int64_t n = ids.size(1) - 1;
    const at::Tensor loss_now = model->loss(ids.narrow(1, 0, n).contiguous(),
                                            ids.narrow(1, 1, n).contiguous());
    loss_now.backward();
    parallel_layers::clip_grad_norm(model->parameters(), 1.0);
    optimizer->step();
    loss = loss_now.item<double>();
  }

  /// Seconds of a step; the first one is not timed.
  double time_steps() {
    step();
    ps::get_tensor_model_parallel_group()->barrier();
    const auto start = Clock::now();
    for (int i = 0; i < kSteps; ++i) {
      step();
    }
    return std::chrono::duration<double>(Clock::now() - start).count() / kSteps;
  }

  at::Tensor ids;
  Llama model{nullptr};
  std::unique_ptr<torch::optim::AdamW> optimizer;
  double loss = 0;
};

/// Times a new model, on both ranks, and puts its last loss into `loss`.
double time_on_threads(const Size& size, double& loss) {
  std::array<double, kRanks> times{};
  on_threads_of_first_process([&](int rank) {
    Trainee trainee(size);
    times[static_cast<size_t>(rank)] = trainee.time_steps();
    if (rank == 0) {
      loss = trainee.loss;
    }
  });
  loss = slowest_process(loss);
  return slowest_process(std::max(times[0], times[1]));
}

double time_on_processes(const WorldPtr& world, const Size& size,
                         double& loss) {
  const RankContextScope scope(std::make_shared<RankContext>(world));
  const RankRandomScope random;
  Trainee trainee(size);
  const double seconds = trainee.time_steps();
  loss = slowest_process(trainee.loss);
  return slowest_process(seconds);
}

int run(int rounds) {
  int process = 0;
  int processes = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &process);
  MPI_Comm_size(MPI_COMM_WORLD, &processes);
  check<Error>(processes == kRanks, "process_steps: start it with mpirun -n ",
               kRanks);
  at::set_num_threads(1);
  const SharedFolder shared;  // goes last
  const std::string& folder = shared.path();
  const std::array<WorldPtr, 2> worlds = {world_of("shm", folder),
                                          world_of("gloo", folder)};
  for (const Size& size : kSizes) {
    std::array<std::vector<double>, kNames.size()> samples;
    for (int round = 0; round < rounds; ++round) {
      std::array<double, kNames.size()> losses{};
      for (size_t i = 0; i < kNames.size(); ++i) {
        MPI_Barrier(MPI_COMM_WORLD);
        samples[i].push_back(
            i == 0 ? time_on_threads(size, losses[i])
                   : time_on_processes(worlds[i - 1], size, losses[i]));
        check<Error>(losses[i] == losses[0], "process_steps: the loss over ",
                     kNames[i], " is ", losses[i], ", and over threads ",
                     losses[0]);
      }
    }
    if (process == 0) {
      std::printf(
          "training step, Llama of %s, 2 ranks, fp32, %d rounds, "
          "median (quartiles)\n ",
          size.name, rounds);
      for (size_t i = 0; i < kNames.size(); ++i) {
        std::printf(" %s %s", kNames[i],
                    spread_text(spread_of(samples[i])).c_str());
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
  for (const WorldPtr& world : worlds) {
    world->leave();
  }
  return 0;
}

}  // namespace
}  // namespace colonnade::bench

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  const int result = colonnade::bench::run(argc > 1 ? std::atoi(argv[1]) : 7);
  MPI_Finalize();
  return result;
}
