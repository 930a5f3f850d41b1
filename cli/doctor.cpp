#include "cli/command.h"
#include "cli/format.h"
#include "cli/samples.h"
#include "cli/shared_options.h"
#include "cli/terminal.h"
#include "cli/validators.h"
#include "colonnade/comm/backend.h"
#include "colonnade/comm/exchange.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "colonnade/core/version.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/ones.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade doctor
      What is installed, and two thread ranks that exchange a tensor.
  mpirun -n 4 colonnade doctor
      What each rank that mpirun starts gets; likewise torchrun and srun.
  mpirun -n 4 colonnade doctor --backend mpi
      The same over another backend.
)";

struct DoctorCommand {
  int ranks = 2;
  std::string backend;
};

/// The library that torch is, as it was loaded.
std::string torch_library() {
  Dl_info info{};
  const auto* const symbol = reinterpret_cast<const void*>(&at::globalContext);
  return dladdr(symbol, &info) != 0 ? info.dli_fname : "?";
}

std::string line(const std::string& name, const std::string& text) {
  return concat(left_aligned(name, 12), text, '\n');
}

std::string installed() {
  std::string text =
      line("colonnade", version()) +
      line("torch", concat(TORCH_VERSION, "  ", torch_library())) +
      line("CPU", concat(at::get_cpu_capability(), ", ", usable_cores(),
                         usable_cores() == 1 ? " core" : " cores")) +
      line("CUDA", at::hasCUDA() ? "there" : "none, or torch_cuda not loaded");
  std::string name = "backends";
  for (const Backend& backend : backends()) {
    const std::string why_not = backend.why_not();
    text += line(name, concat(left_aligned(std::string(backend.name), 9),
                              why_not.empty() ? "can run: " : "cannot: ",
                              why_not.empty() ? backend.summary : why_not));
    name.clear();
  }
  return text;
}

/// This rank, in a line.
std::string place_of_rank() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::string cores;
  for (const int core : allowed_cores()) {
    cores += concat(cores.empty() ? "" : ",", core);
  }
  const int threads = at::get_num_threads();
  return concat("host ", host.data(), ", process ", getpid(), ", cores ", cores,
                ", ", threads, threads == 1 ? " thread" : " threads");
}

/// "0.4 us": the median of some all-reduces of `bytes` bytes, on the slowest
/// rank.
std::string time_all_reduce(Group& group, int64_t bytes) {
  constexpr int kWarmUp = 20;
  constexpr int kCalls = 200;
  at::Tensor x = at::ones({bytes / 4});
  std::vector<double> seconds;
  for (int i = 0; i < kWarmUp + kCalls; ++i) {
    x.fill_(1);
    const double time = seconds_of([&] { group.all_reduce(x); });
    check<Error>(x[0].item<float>() == static_cast<float>(group.size()),
                 "doctor: the sum of ones over ", group.size(), " ranks is ",
                 x[0].item<float>());
    if (i >= kWarmUp) {
      seconds.push_back(time);
    }
  }
  at::Tensor slowest = at::full({1}, spread_of(seconds).median, at::kDouble);
  group.all_reduce(slowest, ReduceOp::kMax);
  return as_time(slowest.item<double>());
}

/// What the ranks are, and how fast they exchange; on every rank.
std::string ranks_together() {
  World& world = *RankContext::current()->world();
  std::vector<int64_t> all(static_cast<size_t>(world.size()));
  std::iota(all.begin(), all.end(), 0);
  const GroupPtr group = world.make_group("doctor", all);
  const std::string launcher = launcher_name();
  std::string text =
      line("ranks", concat(world.size(), ", ",
                           launcher.empty() ? "threads of this process"
                                            : "started by " + launcher,
                           ", over ", world.backend()));
  int rank = 0;
  for (const std::string& place : all_gather_bytes(*group, place_of_rank())) {
    text += line("", concat("rank ", rank++, ": ", place));
  }
  std::string name = "all_reduce";
  for (const int64_t bytes : {8, 64 << 10, 1 << 20}) {
    text += line(name, concat(left_aligned(as_bytes(bytes), 9),
                              time_all_reduce(*group, bytes)));
    name.clear();
  }
  return text;
}

int run_doctor(const DoctorCommand& command) {
  // Of the process: a rank has its share of the cores.
  const std::string software = installed();
  bool told = false;
  const auto tell_installed = [&] {
    print(software);
    told = true;
  };
  try {
    launch(
        [&](int rank) {
          if (rank == 0) {
            tell_installed();
          }
          const std::string text = ranks_together();
          if (rank == 0) {
            print(text);
          }
        },
        threads(command.ranks, command.backend));
  } catch (const Error&) {
    if (!told) {
      tell_installed();
    }
    throw;
  }
  return kDone;
}

}  // namespace

Command add_doctor(CLI::App& program) {
  CLI::App* const app = program.add_subcommand(
      "doctor", "Show what can run here, and try the ranks");
  const auto command = std::make_shared<DoctorCommand>();
  app->add_option("--ranks", command->ranks,
                  "Thread ranks to try, where no launcher made any")
      ->check(at_least(1))
      ->capture_default_str();
  add_backend_option(*app, command->backend);
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_doctor(*command); }};
}

}  // namespace colonnade::cli
