// cli/graph.cpp
#include "colonnade/trace/graph.h"

#include "cli/command.h"
#include "cli/example_inputs.h"
#include "cli/format.h"
#include "cli/graph_picture.h"
#include "cli/graph_summary.h"
#include "cli/launched_ranks.h"
#include "cli/samples.h"
#include "cli/shared_options.h"
#include "cli/terminal.h"
#include "cli/traced_model.h"
#include "cli/validators.h"
#include "colonnade/core/error.h"
#include "colonnade/memory/caching_allocator.h"

#include <CLI/CLI.hpp>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade graph traced
      What is in it, and its ops by number of calls.
  colonnade graph traced --profile --seq 1
      Its ops by time, for one token.
  colonnade graph traced --svg traced.svg
      A picture for a browser; layers that are alike are drawn once.
  colonnade graph traced --text --no-optimize
      Every call, as it was traced.
)";

struct GraphCommand {
  TracedModelOptions model;
  InputSize size;
  int rounds = 10;
  bool profile = false;
  bool text = false;
  std::string svg;
};

/// What passes took, on rank 0.
struct PassTimes {
  std::vector<double> calls;  ///< The median of each.
  double pass = 0;            ///< The median of a pass that nobody watches.
};

PassTimes time_passes(trace::TensorParallelModel& model,
                      const GraphCommand& command) {
  const auto inputs = example_inputs(model.graph(), command.size);
  std::vector<std::vector<double>> calls(model.optimized_graph().nodes.size());
  std::vector<double> passes;
  constexpr int kWarmUp = 2;
  for (int round = -kWarmUp; round < command.rounds; ++round) {
    model.reset_state();
    const double pass = seconds_of([&] { model.forward(inputs); });
    model.reset_state();
    const auto profile = model.profile(inputs);
    if (round >= 0) {
      passes.push_back(pass);
      for (const trace::CallProfile& call : profile) {
        calls[call.node].push_back(call.seconds);
      }
    }
  }
  PassTimes times;
  times.pass = spread_of(passes).median;
  for (const std::vector<double>& samples : calls) {
    times.calls.push_back(samples.empty() ? 0 : spread_of(samples).median);
  }
  return times;
}

void write_picture(const GraphCommand& command, const trace::Graph& graph,
                   const std::vector<double>& seconds) {
  std::ofstream file(command.svg);
  file << draw_as_svg(graph, command.model.folder, seconds);
  file.close();
  check_arg(file.good(), "--svg: cannot write ", command.svg);
}

void show_graph(const GraphCommand& command, bool speaks) {
  trace::TensorParallelModel model = load_traced_model(command.model);
  const trace::Graph& graph = model.optimized_graph();
  PassTimes times;
  if (command.profile && !command.text) {
    times = time_passes(model, command);
  }
  if (!speaks) {
    return;
  }
  if (command.text) {
    print(to_string(graph));
    return;
  }
  if (!command.svg.empty()) {
    write_picture(command, graph, times.calls);
  }
  print(concat(command.model.folder, "\n", summary(model.graph(), graph), "\n",
               op_table(graph, times.calls)));
  if (command.profile) {
    print(concat("\nA pass on ", model.tensor_parallel_size(),
                 model.tensor_parallel_size() == 1 ? " rank" : " ranks",
                 " takes ", as_time(times.pass), " (medians of ",
                 command.rounds, "; calls timed on rank 0).\n"));
  }
  if (!command.svg.empty()) {
    print(concat("\nPicture: ", command.svg, "\n"));
  }
}

int run_graph(const GraphCommand& command) {
  if (!command.svg.empty()) {
    check_outside(command.model.folder, command.svg, "--svg");
  }
  install_caching_allocator();
  on_launched_ranks(command.model.tp, command.model.backend,
                    [&](bool speaks) { show_graph(command, speaks); });
  return kDone;
}

}  // namespace

Command add_graph(CLI::App& program) {
  CLI::App* const app =
      program.add_subcommand("graph", "Show what a traced model computes");
  const auto command = std::make_shared<GraphCommand>();
  add_traced_model_options(*app, command->model);
  app->add_flag("--profile", command->profile,
                "Run it, and say what each op takes");
  app->add_option("--batch", command->size.batch,
                  "Size of dim 0 of the inputs to run it on, where it varies")
      ->check(at_least(1));
  app->add_option("--seq", command->size.seq,
                  "Size of dim 1 of the inputs to run it on, where it varies")
      ->check(at_least(1));
  app->add_option("--rounds", command->rounds, "Passes to take medians of")
      ->check(at_least(1))
      ->capture_default_str();
  app->add_option("--svg", command->svg, "A file for a picture of it");
  app->add_flag("--text", command->text, "Print every call, and nothing else");
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_graph(*command); }};
}

}  // namespace colonnade::cli
