// cli/train.cpp
#include "cli/command.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/shared_options.h"
#include "cli/terminal.h"
#include "cli/train_progress.h"
#include "cli/validators.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/train/model_checkpoint.h"
#include "colonnade/train/run_folder.h"
#include "colonnade/train/trainer.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade train --data book.txt --out run
      A small model on one rank.
  colonnade train --data book.txt --out run --tp 2
      The same model, each of its matrices split over two ranks.
  colonnade train --data book.txt --out run --tp 2 --dp 2 --batch 4
      Two such pairs, which share each step's batch.
  colonnade train --data book.txt --out run --resume --tp 4 --steps 2000
      Goes on from the newest checkpoint in `run`, on another number of ranks;
      options that are not given are those of that run.

Ctrl-C ends the run after the step it is in, with a checkpoint.
)";

struct TrainCommand {
  std::string data;
  std::string out;
  int tp = 1;
  std::string backend;
  int dp = 1;
  std::vector<std::string> resume;  // what followed --resume
  CLI::Option* resume_option = nullptr;
  std::vector<CLI::Option*> model_options;

  std::string dtype = "float32";
  int64_t seq_len = 128;
  double eval_fraction = 0.1;
  TrainOptions options;
};

void add_run_options(CLI::App& app, TrainCommand& command) {
  TrainOptions& options = command.options;
  app.add_option("--data", command.data, "The text to learn from: any file")
      ->required()
      ->group("Run");
  app.add_option("--out", command.out,
                 "The folder for checkpoints, loss.svg and loss.csv")
      ->required()
      ->group("Run");
  add_tp_option(app, command.tp)->group("Run");
  app.add_option("--dp", command.dp, "Copies of the model that share a step")
      ->check(at_least(1))
      ->capture_default_str()
      ->group("Run");
  add_backend_option(app, command.backend)->group("Run");
  app.add_option("--steps", options.steps, "Steps of the whole run")
      ->check(at_least(1))
      ->capture_default_str()
      ->group("Run");
  app.add_option("--seed", options.seed, "Of weights and order of the text")
      ->check(at_least(0))
      ->capture_default_str()
      ->group("Run");
  command.resume_option =
      app.add_option("--resume", command.resume,
                     "Go on from the newest checkpoint in --out, or from the "
                     "checkpoint named here")
          ->expected(0, 1)
          ->type_name("[FOLDER]")
          ->group("Run");
  app.add_option("--save-every", options.save_every,
                 "Steps from checkpoint to checkpoint; 0: one at the end")
      ->check(at_least(0))
      ->capture_default_str()
      ->group("Run");
  app.add_option("--keep", options.keep, "Newest checkpoints that stay")
      ->check(at_least(1))
      ->capture_default_str()
      ->group("Run");
  app.add_option("--eval-every", options.eval_every,
                 "Steps between evaluations; 0: one at the end")
      ->check(at_least(0))
      ->capture_default_str()
      ->group("Run");
  app.add_option("--eval-windows", options.eval_windows,
                 "Windows of held-out text an evaluation reads; 0: all")
      ->check(at_least(0))
      ->capture_default_str()
      ->group("Run");
  app.add_option("--eval-fraction", command.eval_fraction,
                 "Share of the text, at its end, that is held out")
      ->check(number_from(0, 0.9))
      ->capture_default_str()
      ->group("Run");
}

void add_model_options(CLI::App& app, TrainCommand& command) {
  LlamaOptions& model = command.options.model;
  const auto add = [&](const char* name, int64_t& value, const char* text,
                       int64_t least) {
    CLI::Option* option = app.add_option(name, value, text)
                              ->check(at_least(least))
                              ->capture_default_str()
                              ->group("Model");
    command.model_options.push_back(option);
  };
  add("--hidden", model.hidden_size(), "Size of a token's vector", 1);
  add("--layers", model.num_layers(), "Transformer blocks", 1);
  add("--heads", model.num_heads(), "Attention heads; a multiple of --tp", 1);
  add("--kv-heads", model.num_kv_heads(),
      "Heads of keys and values, shared by the others; 0: as many", 0);
  add("--intermediate", model.intermediate_size(),
      "Inner size of the feed-forward part; 0: 8/3 of --hidden", 0);
  add("--seq-len", command.seq_len, "Tokens (bytes) of a window", 1);
  command.model_options.push_back(
      add_dtype_option(app, command.dtype,
                       "Of the weights: float32, bfloat16 or float64")
          ->capture_default_str()
          ->group("Model"));
  command.model_options.push_back(
      app.add_flag("--tie-embeddings", model.tie_embeddings(),
                   "The head multiplies with the embedding's table")
          ->group("Model"));
  app.add_flag("--sequence-parallel", model.sequence_parallel(),
               "Split norms and residuals along the sequence, too")
      ->group("Model");
}

void add_learning_options(CLI::App& app, TrainCommand& command) {
  TrainOptions& options = command.options;
  app.add_option("--batch", options.batch_size,
                 "Windows that a copy of the model reads at a time")
      ->check(at_least(1))
      ->capture_default_str()
      ->group("Learning");
  app.add_option("--accumulate", options.accumulation,
                 "Batches whose gradients make one step")
      ->check(at_least(1))
      ->capture_default_str()
      ->group("Learning");
  app.add_option("--lr", options.learning_rate, "The highest learning rate")
      ->check(positive_number())
      ->capture_default_str()
      ->group("Learning");
  app.add_option("--min-lr", options.min_learning_rate,
                 "The learning rate at the end")
      ->check(number_from(0, 1e9))
      ->capture_default_str()
      ->group("Learning");
  app.add_option("--warmup", options.warmup_steps,
                 "Steps in which the learning rate rises")
      ->check(at_least(0))
      ->capture_default_str()
      ->group("Learning");
  app.add_option("--weight-decay", options.weight_decay, "Of matrices")
      ->check(number_from(0, 1e9))
      ->capture_default_str()
      ->group("Learning");
  app.add_option("--clip", options.max_grad_norm,
                 "The largest norm of a step's gradient")
      ->check(positive_number())
      ->capture_default_str()
      ->group("Learning");
}

/// Takes model and options of the checkpoint to go on from; what the command
/// line has wins, but for the model.
void take_over_checkpoint(TrainCommand& command, const ReadAgain& read_again) {
  for (const CLI::Option* option : command.model_options) {
    check_arg(option->count() == 0, "train: ", option->get_name(),
              " cannot change when a run is resumed; leave it out");
  }
  const std::filesystem::path folder = find_checkpoint(
      command.resume.empty() || command.resume[0].empty() ? command.out
                                                          : command.resume[0]);
  const CheckpointInfo info = read_checkpoint_info(folder);
  command.options.take_state(info.train);
  command.seq_len = info.seq_len;
  command.eval_fraction = info.eval_fraction;
  read_again();
  const bool sequence_parallel = command.options.model.sequence_parallel();
  command.options.model = info.model;
  command.options.model.sequence_parallel(sequence_parallel);
  command.options.resume_from = folder;
}

void start_anew(TrainCommand& command) {
  const auto newest = RunFolder(command.out).newest();
  check_arg(!newest, "train: ", command.out, " has a run already, up to ",
            newest ? newest->filename().string() : "",
            "; add --resume to go on with it, or give another folder");
  LlamaOptions& model = command.options.model;
  model.dtype(dtype_named(command.dtype)).max_positions(command.seq_len);
  if (model.intermediate_size() == 0) {
    // Of three matrices, as large together as two of 4 x hidden.
    model.intermediate_size((model.hidden_size() * 8 / 3 + 31) / 32 * 32);
  }
  command.options.min_learning_rate = std::min(
      command.options.min_learning_rate, command.options.learning_rate);
}

int run_train(TrainCommand& command, const ReadAgain& read_again) {
  if (command.resume_option->count() > 0) {
    take_over_checkpoint(command, read_again);
  } else {
    start_anew(command);
  }
  command.options.out = command.out;
  const TextData data(command.data, command.seq_len, command.eval_fraction);
  std::filesystem::create_directories(command.out);
  install_caching_allocator();
  catch_interrupts();
  TrainProgress progress(command.out);
  launch(
      [&](int rank) {
        parallel_state::initialize_model_parallel(command.tp);
        if (rank == 0) {
          print(concat(command.data, ": ", with_commas(data.train_tokens()),
                       " bytes to learn from, ",
                       with_commas(data.eval_tokens()),
                       " held out; tensor-parallel ranks ", command.tp,
                       ", data-parallel ranks ",
                       parallel_state::get_data_parallel_size(), "\n"));
        }
        train(command.options, data, progress);
      },
      threads(command.tp * command.dp, command.backend));
  return progress.interrupted() ? 128 + interrupt() : kDone;
}

}  // namespace

Command add_train(CLI::App& program, const ReadAgain& read_again) {
  CLI::App* const app = program.add_subcommand(
      "train", "Teach a language model to write like a text");
  const auto command = std::make_shared<TrainCommand>();
  TrainOptions& options = command->options;
  options.model.hidden_size(128).num_layers(4).num_heads(4);
  options.model.intermediate_size(0);
  add_run_options(*app, *command);
  add_model_options(*app, *command);
  add_learning_options(*app, *command);
  app->footer(kExamples);
  return {.options = app, .run = [command, read_again] {
            return run_train(*command, read_again);
          }};
}

}  // namespace colonnade::cli
