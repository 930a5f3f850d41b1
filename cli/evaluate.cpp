// cli/evaluate.cpp
#include "colonnade/train/evaluate.h"

#include "cli/command.h"
#include "cli/format.h"
#include "cli/shared_options.h"
#include "cli/terminal.h"
#include "cli/validators.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/train/model_checkpoint.h"

#include <CLI/CLI.hpp>

#include <cmath>
#include <memory>
#include <numbers>
#include <optional>
#include <string>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade evaluate --checkpoint run --data book.txt
      The loss on the part of the book that was held out of training.
  colonnade evaluate --checkpoint run --data other.txt --whole --tp 2
      The loss on all of another text, on two ranks.
)";

struct EvaluateCommand {
  std::string checkpoint;
  std::string data;
  int tp = 1;
  std::string backend;
  int64_t windows = 0;
  int64_t batch_size = 16;
  bool whole = false;
};

int run_evaluate(const EvaluateCommand& command) {
  const std::filesystem::path folder = find_checkpoint(command.checkpoint);
  const CheckpointInfo info = read_checkpoint_info(folder);
  const TextData data(command.data, info.seq_len,
                      command.whole ? 1.0 : info.eval_fraction);

  install_caching_allocator();
  std::optional<Evaluation> evaluation;  // where rank 0 is
  launch(
      [&](int rank) {
        parallel_state::initialize_model_parallel(command.tp);
        Llama model(info.model);
        load_model(folder, model);
        const Evaluation result =
            evaluate(model, data, command.windows, command.batch_size);
        if (rank == 0) {
          evaluation = result;
        }
      },
      threads(command.tp, command.backend));
  if (!evaluation) {
    return kDone;
  }
  print(concat(folder.string(), " on ", command.data, "\n  loss        ",
               as_fixed(evaluation->loss, 6), " nats a byte\n  bits        ",
               as_fixed(evaluation->loss / std::numbers::ln2, 4),
               " a byte\n  perplexity  ",
               as_fixed(std::exp(evaluation->loss), 4), "\n  bytes       ",
               with_commas(evaluation->tokens), "\n"));
  return kDone;
}

}  // namespace

Command add_evaluate(CLI::App& program) {
  CLI::App* const app = program.add_subcommand(
      "evaluate", "Measure how well a model predicts a text");
  const auto command = std::make_shared<EvaluateCommand>();
  add_checkpoint_option(*app, command->checkpoint);
  app->add_option("--data", command->data, "The text to predict")->required();
  add_tp_option(*app, command->tp);
  add_backend_option(*app, command->backend);
  app->add_flag("--whole", command->whole,
                "All of the text, not the part held out of training");
  app->add_option("--windows", command->windows,
                  "Windows to read, from the first; 0: all")
      ->check(at_least(0))
      ->capture_default_str();
  app->add_option("--batch", command->batch_size, "Windows at a time")
      ->check(at_least(1))
      ->capture_default_str();
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_evaluate(*command); }};
}

}  // namespace colonnade::cli
