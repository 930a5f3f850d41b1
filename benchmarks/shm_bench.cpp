// benchmarks/shm_bench.cpp
//
// All-reduce of two ranks that are processes beside two that are threads, in
// turn.
#include "benchmarks/measure.h"
#include "colonnade/comm/backend.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"

#include <ATen/ATen.h>

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace colonnade::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRanks = 2;
constexpr int kMaxCalls = 200;

/// What the measuring processes share.
struct Shared {
  struct Value {
    std::atomic<bool> set;
    std::array<char, 512> name;
    std::array<char, 1024> text;
  };

  std::atomic<uint64_t> arrived;
  std::array<std::array<Clock::time_point, kMaxCalls>, kRanks> starts;
  std::array<std::array<Clock::time_point, kMaxCalls>, kRanks> ends;
  std::atomic<int> values;
  std::array<Value, 64> named;
};

/// Names in memory that forked processes share.
class SharedRendezvous final : public Rendezvous {
 public:
  explicit SharedRendezvous(Shared& shared) : shared_(shared) {}

  void set(const std::string& name, std::string_view value) override {
    Shared::Value& to =
        shared_.named[static_cast<size_t>(shared_.values.fetch_add(1))];
    std::copy(name.begin(), name.end(), to.name.begin());
    std::copy(value.begin(), value.end(), to.text.begin());
    to.set.store(true);
  }

  std::string get(const std::string& name,
                  std::chrono::milliseconds timeout) override {
    const auto end = Clock::now() + timeout;
    while (true) {
      for (const Shared::Value& value : shared_.named) {
        if (value.set.load() && name == value.name.data()) {
          return value.text.data();
        }
      }
      check<CommError>(Clock::now() < end, "nobody set ", name);
      std::this_thread::yield();
    }
  }

 private:
  Shared& shared_;
};

Shared& make_shared_memory() {
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  check<Error>(memory != MAP_FAILED, "shm_bench: no shared memory");
  return *new (memory) Shared{};
}

/// Does `calls` all-reduces, each when all ranks have come.
void measure_rank(Group& group, Shared& shared, int64_t bytes, int calls) {
  const auto rank = static_cast<size_t>(group.rank());
  uint64_t lines = 0;
  const auto line_up = [&] {
    shared.arrived.fetch_add(1);
    ++lines;
    for (int i = 0; shared.arrived.load() < lines * kRanks; ++i) {
      if (i > 10000) {
        std::this_thread::yield();
      }
    }
  };
  at::Tensor x = at::empty({bytes / 4});
  for (int call = -3; call < calls; ++call) {  // the first to warm up
    x.fill_(group.rank() + 1);
    line_up();
    const auto start = Clock::now();
    group.all_reduce(x);
    const auto end = Clock::now();
    line_up();
    check<Error>(x.eq(3).all().item<bool>(), "shm_bench: wrong values");
    if (call >= 0) {
      shared.starts[rank][static_cast<size_t>(call)] = start;
      shared.ends[rank][static_cast<size_t>(call)] = end;
    }
  }
}

/// Runs `body` in forked processes, `count` of them.
template <typename Body>
void fork_each(int count, Body body) {
  std::vector<pid_t> children;
  for (int i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      try {
        body(i);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        _exit(1);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    check<Error>(status == 0, "shm_bench: a rank failed");
  }
}

/// The median of the seconds from the last start to the last end.
double median_of(const Shared& shared, int calls) {
  std::vector<double> seconds;
  for (size_t call = 0; call < static_cast<size_t>(calls); ++call) {
    const auto start = std::max(shared.starts[0][call], shared.starts[1][call]);
    const auto end = std::max(shared.ends[0][call], shared.ends[1][call]);
    seconds.push_back(std::chrono::duration<double>(end - start).count());
  }
  return spread_of(std::move(seconds)).median;
}

/// As run_ranks pins threads.
void pin(int rank) {
  const std::vector<int> cores = allowed_cores();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cores[static_cast<size_t>(rank) % cores.size()], &set);
  sched_setaffinity(0, sizeof(set), &set);
}

double of_processes(int64_t bytes, int calls) {
  Shared& shared = make_shared_memory();
  fork_each(kRanks, [&](int rank) {
    at::set_num_threads(1);
    pin(rank);
    const WorldPtr world = find_backend("shm").make_process_world(
        {rank, kRanks, "here", std::make_shared<SharedRendezvous>(shared),
         std::chrono::minutes(1)});
    measure_rank(*world->make_group("all", {0, 1}), shared, bytes, calls);
  });
  const double median = median_of(shared, calls);
  munmap(&shared, sizeof(shared));
  return median;
}

double of_threads(int64_t bytes, int calls) {
  Shared& shared = make_shared_memory();
  fork_each(1, [&](int) {
    run_ranks(kRanks, [&](int) {
      const GroupPtr group =
          RankContext::current()->world()->make_group("all", {0, 1});
      measure_rank(*group, shared, bytes, calls);
    });
  });
  const double median = median_of(shared, calls);
  munmap(&shared, sizeof(shared));
  return median;
}

void measure(int64_t bytes) {
  constexpr int kRounds = 9;
  const int calls = bytes <= 65536 ? kMaxCalls : bytes <= (4 << 20) ? 20 : 5;
  std::vector<double> processes;
  std::vector<double> threads;
  for (int round = 0; round < kRounds; ++round) {
    processes.push_back(of_processes(bytes, calls));
    threads.push_back(of_threads(bytes, calls));
  }
  const Spread shm = spread_of(std::move(processes));
  const Spread both = spread_of(std::move(threads));
  std::printf("%8s %9s %9s - %-9s %9s %9s - %-9s %6.2f\n",
              bytes_text(static_cast<double>(bytes)).c_str(),
              seconds_text(shm.median).c_str(), seconds_text(shm.low).c_str(),
              seconds_text(shm.high).c_str(), seconds_text(both.median).c_str(),
              seconds_text(both.low).c_str(), seconds_text(both.high).c_str(),
              shm.median / both.median);
  std::fflush(stdout);
}

}  // namespace
}  // namespace colonnade::bench

int main() {
  std::printf(
      "all_reduce of 2 float32 ranks, the slowest rank; median of rounds, and "
      "bounds of the middle half.\nratio: processes / threads.\n\n"
      "%8s %9s %21s %9s %21s %6s\n",
      "bytes", "processes", "", "threads", "", "ratio");
  std::fflush(stdout);
  for (const int64_t bytes : {8, 512, 2048, 4096, 8192, 16384, 32768, 65536,
                              262144, 1 << 20, 4 << 20, 16 << 20, 64 << 20}) {
    colonnade::bench::measure(bytes);
  }
}
