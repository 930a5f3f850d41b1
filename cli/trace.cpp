// cli/trace.cpp
#include "cli/command.h"
#include "cli/format.h"
#include "cli/graph_summary.h"
#include "cli/launched_ranks.h"
#include "cli/shared_options.h"
#include "cli/terminal.h"
#include "cli/traced_model.h"
#include "cli/validators.h"
#include "colonnade/core/error.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/models/cached_llama.h"
#include "colonnade/trace/parallel_model_save_load.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "colonnade/train/model_checkpoint.h"

#include <ATen/ops/zeros.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

namespace colonnade::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade trace --checkpoint run --out traced --tp 2
      The model's forward pass as a graph, with its weights: a folder that runs
      without the code of the model, on two ranks or any other number.
  colonnade run traced --prompt "It was "
      Writes with it.
  colonnade trace --checkpoint run --out small --dtype bfloat16 --max-length 64
      Half the bytes, and a cache of 64 positions.
)";

struct TraceCommand {
  std::string checkpoint;
  std::string out;
  int tp = 1;
  int64_t batch = 1;
  int64_t max_length = 0;
  std::string dtype;
  std::string backend;
};

/// Never writes over anything but another traced model.
void check_out(const fs::path& out) {
  std::error_code error;
  check_arg(
      !fs::exists(out) || has_traced_model(out) || fs::is_empty(out, error),
      "trace: ", out.string(),
      " has something else in it; give --out a new folder, or that of "
      "an earlier traced model");
}

/// A second degree that the heads divide over, so that the graph is for any.
int64_t second_degree(int64_t tp, int64_t heads) {
  int64_t degree = tp == 1 ? 2 : 1;
  while (degree < heads && heads % degree != 0) {
    ++degree;
  }
  return degree;
}

/// Of the cache, the largest example, read twice, fills no more.
int64_t example_length(int64_t max_length) {
  return std::clamp<int64_t>(max_length / 4, 2, 8);
}

/// Of the files in it and its folders.
int64_t bytes_in(const fs::path& folder) {
  int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    bytes +=
        entry.is_regular_file() ? static_cast<int64_t>(entry.file_size()) : 0;
  }
  return bytes;
}

int run_trace(const TraceCommand& command) {
  const fs::path folder = find_checkpoint(command.checkpoint);
  check_out(command.out);
  LlamaOptions options = read_checkpoint_info(folder).model;
  if (!command.dtype.empty()) {
    options.dtype(dtype_named(command.dtype));
  }
  const int64_t max_length =
      command.max_length > 0 ? command.max_length : options.max_positions();

  install_caching_allocator();
  const auto begin = std::chrono::steady_clock::now();
  trace::TraceOptions trace_options;
  trace_options.dynamic_dims = {{1}};
  trace_options.second_degree = second_degree(command.tp, options.num_heads());
  trace_options.optimize = false;  // it is not run
  trace_options.launch = own_ranks(command.backend);
  on_launched_ranks(command.tp, command.backend, [&](bool speaks) {
    const trace::TensorParallelModel model = trace::parallel_model_trace(
        [&] {
          CachedLlama cached(options, command.batch, max_length);
          load_model(folder, cached->llama);
          return cached;
        },
        {at::zeros({command.batch, example_length(max_length)}, at::kLong)},
        command.tp, trace_options);
    trace::parallel_model_save(model, command.out);
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - begin;
    if (speaks) {
      print(concat(folder.string(), " traced into ", command.out, " in ",
                   as_fixed(seconds.count(), 1), " s\n",
                   summary(model.graph(), model.optimized_graph()),
                   "  on disk  ", as_bytes(bytes_in(command.out)), "\n"));
    }
  });
  return kDone;
}

}  // namespace

Command add_trace(CLI::App& program) {
  CLI::App* const app = program.add_subcommand(
      "trace", "Turn a trained model into a graph that needs no code of it");
  const auto command = std::make_shared<TraceCommand>();
  add_checkpoint_option(*app, command->checkpoint);
  app->add_option("--out", command->out, "The folder for the traced model")
      ->required();
  add_tp_option(*app, command->tp);
  add_backend_option(*app, command->backend);
  app->add_option("--max-length", command->max_length,
                  "Positions that its cache holds; 0: as many as the model "
                  "was trained on")
      ->check(at_least(0))
      ->capture_default_str();
  app->add_option("--batch", command->batch,
                  "Texts that it reads at a time; `run` writes one")
      ->check(at_least(1))
      ->capture_default_str();
  add_dtype_option(*app, command->dtype,
                   "Of the weights; that of the checkpoint, if not given");
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_trace(*command); }};
}

}  // namespace colonnade::cli
