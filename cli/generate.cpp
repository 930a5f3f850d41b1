// cli/generate.cpp
#include "colonnade/models/generate.h"

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/utf8_stream.h"
#include "cli/validators.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/train/byte_tokenizer.h"
#include "colonnade/train/model_checkpoint.h"

#include <CLI/CLI.hpp>

#include <fstream>
#include <memory>
#include <string>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade generate --checkpoint run --prompt "It was "
      Goes on with the prompt, each time with the likeliest byte.
  colonnade generate --checkpoint run --prompt "It was " --temperature 0.8
      Draws from the likelier bytes; --seed 2 gives another text.
  colonnade generate --checkpoint run/step_000200 --prompt "It was " --tp 2
      An older checkpoint, on two ranks, whatever it was trained on.
)";

struct GenerateCommand {
  std::string checkpoint;
  std::string prompt;
  std::string tokens_file;
  int tp = 1;
  GenerateOptions options;
};

/// One line a token: its byte, and by how much it was ahead.
class TokenFile {
 public:
  explicit TokenFile(const std::string& path) {
    if (!path.empty()) {
      out_.open(path);
      check_arg(out_.is_open(), "generate: cannot write ", path);
      out_.precision(9);
      out_ << "byte,margin\n";
    }
  }
  void add(const GeneratedToken& token) {
    if (out_.is_open()) {
      out_ << token.id << ',' << token.margin << '\n';
    }
  }

 private:
  std::ofstream out_;
};

int run_generate(const GenerateCommand& command) {
  check_arg(!command.prompt.empty(),
            "generate: the prompt is empty; give at least one character");
  const std::filesystem::path folder = find_checkpoint(command.checkpoint);
  const LlamaOptions model_options = read_checkpoint_info(folder).model;
  const at::Tensor ids = ByteTokenizer::encode(command.prompt);
  const auto* first = ids.const_data_ptr<int64_t>();
  const std::vector<int64_t> prompt(first, first + ids.numel());

  install_caching_allocator();
  catch_interrupts();
  TokenFile tokens(command.tokens_file);
  Utf8Stream text;
  launch(
      [&](int rank) {
        parallel_state::initialize_model_parallel(command.tp);
        Llama model(model_options);
        load_model(folder, model);
        if (rank == 0) {
          print(command.prompt);
        }
        generate(model, prompt, command.options,
                 [&](const GeneratedToken& token) {
                   if (rank == 0) {
                     print(text.push(static_cast<unsigned char>(token.id)));
                     tokens.add(token);
                   }
                   return interrupt() == 0;
                 });
      },
      threads(command.tp));
  print(text.finish() + "\n");
  return interrupt() == 0 ? kDone : 128 + interrupt();
}

}  // namespace

Command add_generate(CLI::App& program) {
  CLI::App* const app = program.add_subcommand(
      "generate", "Write text with a model that was trained");
  const auto command = std::make_shared<GenerateCommand>();
  GenerateOptions& options = command->options;
  app->add_option("--checkpoint", command->checkpoint,
                  "The folder of a run, or of one of its checkpoints")
      ->required();
  app->add_option("--prompt", command->prompt, "What the text begins with")
      ->required();
  app->add_option("--tp", command->tp, "Ranks that each matrix is split over")
      ->check(at_least(1))
      ->capture_default_str();
  app->add_option("--max-tokens", options.max_new_tokens,
                  "Tokens (bytes) to write")
      ->check(at_least(1))
      ->capture_default_str();
  app->add_option("--temperature", options.temperature,
                  "0 takes the likeliest token; 1 draws as the model says")
      ->check(number_from(0, 100))
      ->capture_default_str();
  app->add_option("--top-k", options.top_k,
                  "Draw from so many likeliest tokens; 0: from all")
      ->check(at_least(0))
      ->capture_default_str();
  app->add_option("--top-p", options.top_p,
                  "Draw from the likeliest that have this share together")
      ->check(number_from(0, 1))
      ->capture_default_str();
  app->add_option("--seed", options.seed, "Of the draws")
      ->check(at_least(0))
      ->capture_default_str();
  app->add_option("--tokens", command->tokens_file,
                  "A file for each token and how far its logit was ahead");
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_generate(*command); }};
}

}  // namespace colonnade::cli
