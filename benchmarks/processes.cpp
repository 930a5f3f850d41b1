//
// Collectives of two ranks beside Open MPI's and Gloo's own, in one run:
//
//   mpirun -n 2 --bind-to core processes
//   mpirun -n 2 --bind-to none processes
//
// Threads are two ranks of the first process, while the second one sleeps. The
// last column is no collective: each rank copies a tensor of the size shown in
// its own memory, which a rank of an all_gather or a broadcast does at least.
#include "benchmarks/measure.h"
#include "benchmarks/process_pair.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"

#include <ATen/ATen.h>

// The wheel's library has Gloo, but c10d's headers hide it without this.
#define USE_C10D_GLOO 1
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace colonnade::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array kNames = {"all_reduce", "all_gather", "reduce_scatter",
                               "broadcast"};
constexpr std::array<int64_t, 8> kBytes = {8,      1024,    8192,    65536,
                                           262144, 1 << 20, 8 << 20, 64 << 20};
constexpr double kSecondsASample = 0.015;
constexpr int kMostCalls = 2000;

/// What one library does of the four, on the buffers of one rank: `whole` is
/// of the size that is shown, `part` half of it.
struct Collectives {
  std::function<void(at::Tensor& whole)> all_reduce;
  std::function<void(at::Tensor& whole, at::Tensor& part)> all_gather;
  std::function<void(at::Tensor& part, at::Tensor& whole)> reduce_scatter;
  std::function<void(at::Tensor& whole)> broadcast;
};

Collectives ours(const GroupPtr& group) {
  return {[=](at::Tensor& whole) { group->all_reduce(whole); },
          [=](at::Tensor& whole, at::Tensor& part) {
            group->all_gather(whole, part);
          },
          [=](at::Tensor& part, at::Tensor& whole) {
            group->reduce_scatter(part, whole);
          },
          [=](at::Tensor& whole) { group->broadcast(whole, 0); }};
}

Collectives open_mpi() {
  const auto count = [](const at::Tensor& x) {
    return static_cast<int>(x.numel());
  };
  return {
      [=](at::Tensor& whole) {
        MPI_Allreduce(MPI_IN_PLACE, whole.data_ptr(), count(whole), MPI_FLOAT,
                      MPI_SUM, MPI_COMM_WORLD);
      },
      [=](at::Tensor& whole, at::Tensor& part) {
        MPI_Allgather(part.data_ptr(), count(part), MPI_FLOAT, whole.data_ptr(),
                      count(part), MPI_FLOAT, MPI_COMM_WORLD);
      },
      [=](at::Tensor& part, at::Tensor& whole) {
        MPI_Reduce_scatter_block(whole.data_ptr(), part.data_ptr(), count(part),
                                 MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      },
      [=](at::Tensor& whole) {
        MPI_Bcast(whole.data_ptr(), count(whole), MPI_FLOAT, 0, MPI_COMM_WORLD);
      }};
}

Collectives gloo_itself(const std::string& file, int rank) {
  const auto options =
      c10d::ProcessGroupGloo::Options::create(std::chrono::seconds(60));
  options->devices.push_back(
      c10d::ProcessGroupGloo::createDeviceForInterface("lo"));
  const auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
      c10::make_intrusive<c10d::FileStore>(file, kRanks), rank, kRanks,
      options);
  return {[=](at::Tensor& whole) {
            std::vector<at::Tensor> tensors{whole};
            gloo->allreduce(tensors)->wait();
          },
          [=](at::Tensor& whole, at::Tensor& part) {
            gloo->_allgather_base(whole, part)->wait();
          },
          [=](at::Tensor& part, at::Tensor& whole) {
            gloo->_reduce_scatter_base(part, whole)->wait();
          },
          [=](at::Tensor& whole) {
            std::vector<at::Tensor> tensors{whole};
            gloo->broadcast(tensors)->wait();
          }};
}

/// Of all_gather and broadcast only.
Collectives bare_copies() {
  auto copy = [source = at::Tensor()](at::Tensor& whole) mutable {
    if (!source.defined() || source.numel() != whole.numel()) {
      source = at::ones_like(whole);
    }
    whole.copy_(source);
  };
  return {.all_reduce = {},
          .all_gather = [copy](at::Tensor& whole,
                               at::Tensor&) mutable { copy(whole); },
          .reduce_scatter = {},
          .broadcast = copy};
}

/// Seconds of one call, between writing the buffers and reading them, on this
/// rank. The same calls without a collective are taken off.
double time_calls(const Collectives& of, size_t what, int64_t bytes,
                  int calls) {
  at::Tensor whole = at::zeros({bytes / 4});
  at::Tensor part = at::zeros({bytes / 4 / kRanks});
  const auto seconds = [&](bool exchange) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) {
      const bool from_part = what == 1;
      (from_part ? part : whole).fill_(1);
      if (exchange) {
        switch (what) {
          case 0:
            of.all_reduce(whole);
            break;
          case 1:
            of.all_gather(whole, part);
            break;
          case 2:
            of.reduce_scatter(part, whole);
            break;
          default:
            of.broadcast(whole);
        }
      }
    }
    return std::chrono::duration<double>(Clock::now() - start).count() / calls;
  };
  const double alone = seconds(false);
  const double time = seconds(true) - alone;
  const at::Tensor& result = what == 2 ? part : whole;
  const float want = what == 0 || what == 2 ? kRanks : 1;
  check<Error>(result.eq(want).all().item<bool>(),
               "processes: wrong values after ", kNames[what]);
  return std::max(time, 1e-9);
}

/// On two thread ranks of process 0, on the cores of the host.
double time_threads(size_t what, int64_t bytes, int calls) {
  std::array<double, kRanks> times{};
  on_threads_of_first_process([&](int rank) {
    const GroupPtr group =
        RankContext::current()->world()->make_group("all", {0, 1});
    group->barrier();
    times[static_cast<size_t>(rank)] =
        time_calls(ours(group), what, bytes, calls);
  });
  return slowest_process(*std::max_element(times.begin(), times.end()));
}

/// How many calls make a sample of a good length; equal on all processes.
int calls_for(double seconds) {
  return std::clamp(static_cast<int>(kSecondsASample / seconds), 2, kMostCalls);
}

int run(int rounds) {
  int process = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &process);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  check<Error>(size == kRanks, "processes: start it with mpirun -n ", kRanks);
  const SharedFolder shared;  // goes last
  const std::string& path = shared.path();
  at::set_num_threads(1);

  std::vector<std::string> names = {"threads"};
  std::vector<Collectives> contenders = {{}};
  std::vector<WorldPtr> worlds;
  for (const char* const backend : {"shm", "mpi", "gloo"}) {
    worlds.push_back(world_of(backend, path));
    names.emplace_back(backend);
    contenders.push_back(ours(worlds.back()->make_group("all", {0, 1})));
  }
  names.emplace_back("Open MPI");
  contenders.push_back(open_mpi());
  names.emplace_back("Gloo");
  contenders.push_back(gloo_itself(path + "/itself", process));
  names.emplace_back("copy");
  contenders.push_back(bare_copies());

  const auto sample = [&](size_t which, size_t what, int64_t bytes, int calls) {
    MPI_Barrier(MPI_COMM_WORLD);
    return which == 0 ? time_threads(what, bytes, calls)
                      : slowest_process(
                            time_calls(contenders[which], what, bytes, calls));
  };
  for (size_t what = 0; what < kNames.size(); ++what) {
    if (process == 0) {
      std::printf("%s, 2 ranks, float32, %d rounds, median (quartiles)\n",
                  kNames[what], rounds);
    }
    const bool only_copies = what == 1 || what == 3;
    const size_t count = names.size() - (only_copies ? 0 : 1);
    for (const int64_t bytes : kBytes) {
      std::vector<std::vector<double>> samples(names.size());
      std::vector<int> calls;
      for (size_t which = 0; which < count; ++which) {
        int some = 2;  // the first ones are slow: twice
        some = calls_for(sample(which, what, bytes, some));
        calls.push_back(calls_for(sample(which, what, bytes, some)));
      }
      for (int round = 0; round < rounds; ++round) {
        for (size_t which = 0; which < count; ++which) {
          samples[which].push_back(sample(which, what, bytes, calls[which]));
        }
      }
      if (process == 0) {
        std::printf("  %-8s", bytes_text(static_cast<double>(bytes)).c_str());
        for (size_t which = 0; which < count; ++which) {
          std::printf("  %s %s", names[which].c_str(),
                      spread_text(spread_of(samples[which])).c_str());
        }
        std::printf("\n");
        std::fflush(stdout);
      }
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
