// cli/generate.cpp
#include "colonnade/models/generate.h"

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/shared_options.h"
#include "cli/text_writer.h"
#include "colonnade/launch/launch.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/train/model_checkpoint.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  int tp = 1;
  std::string backend;
  TextOptions text;
};

int run_generate(const GenerateCommand& command) {
  const std::vector<int64_t> prompt = command.text.prompt_ids();
  const std::filesystem::path folder = find_checkpoint(command.checkpoint);
  const LlamaOptions model_options = read_checkpoint_info(folder).model;

  install_caching_allocator();
  catch_interrupts();
  std::optional<TextWriter> writer;  // of rank 0
  launch(
      [&](int rank) {
        parallel_state::initialize_model_parallel(command.tp);
        Llama model(model_options);
        load_model(folder, model);
        if (rank == 0) {
          writer.emplace(command.text);
          writer->begin();
        }
        generate(model, prompt, command.text.generate,
                 [&](const GeneratedToken& token) {
                   return rank != 0 || writer->add(token);
                 });
      },
      threads(command.tp, command.backend));
  return writer ? writer->end() : kDone;
}

}  // namespace

Command add_generate(CLI::App& program) {
  CLI::App* const app = program.add_subcommand(
      "generate", "Write text with a model that was trained");
  const auto command = std::make_shared<GenerateCommand>();
  add_checkpoint_option(*app, command->checkpoint);
  add_tp_option(*app, command->tp);
  add_backend_option(*app, command->backend);
  add_text_options(*app, command->text);
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_generate(*command); }};
}

}  // namespace colonnade::cli
