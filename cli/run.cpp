// cli/run.cpp
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/launched_ranks.h"
#include "cli/shared_options.h"
#include "cli/text_writer.h"
#include "cli/traced_model.h"
#include "colonnade/memory/caching_allocator.h"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade run traced --prompt "It was "
      Goes on with the prompt, each time with the likeliest byte; the text is
      that of `generate` with the checkpoint that was traced.
  colonnade run traced --prompt "It was " --tp 4 --temperature 0.8
      Draws from the likelier bytes, on four ranks.
)";

struct RunCommand {
  TracedModelOptions model;
  TextOptions text;
};

int run_run(const RunCommand& command) {
  const std::vector<int64_t> prompt = command.text.prompt_ids();
  if (!command.text.tokens_file.empty()) {
    check_outside(command.model.folder, command.text.tokens_file, "--tokens");
  }
  install_caching_allocator();
  catch_interrupts();
  std::optional<TextWriter> writer;  // of the process that speaks
  on_launched_ranks(command.model.tp, command.model.backend, [&](bool speaks) {
    TracedDecoder decoder(load_traced_model(command.model));
    if (speaks) {
      writer.emplace(command.text);
      writer->begin();
    }
    generate(decoder, prompt, command.text.generate,
             [&](const GeneratedToken& token) {
               return !any_launched_rank(speaks && !writer->add(token));
             });
  });
  return writer ? writer->end() : kDone;
}

}  // namespace

Command add_run(CLI::App& program) {
  CLI::App* const app =
      program.add_subcommand("run", "Write text with a traced model");
  const auto command = std::make_shared<RunCommand>();
  add_traced_model_options(*app, command->model);
  add_text_options(*app, command->text);
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_run(*command); }};
}

}  // namespace colonnade::cli
