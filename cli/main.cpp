// cli/main.cpp
#include "cli/command.h"
#include "cli/suggest.h"
#include "cli/terminal.h"
#include "colonnade/core/error.h"
#include "colonnade/core/version.h"

#include <c10/util/Exception.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <exception>
#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr const char* kAbout =
    "Trains language models that are split over ranks, writes with them, and "
    "traces\nthem into graphs that run without their code.";

constexpr const char* kFooter = R"(Begin with:
  colonnade train --data book.txt --out run --tp 2
  colonnade evaluate --checkpoint run --data book.txt
  colonnade generate --checkpoint run --prompt "It was "
  colonnade trace --checkpoint run --out traced --tp 2
  colonnade run traced --prompt "It was "
  colonnade doctor

`colonnade COMMAND --help` has the options of a command and more examples.
Exit codes: 0 done, 1 failed, 2 wrong command line, 130 ended by Ctrl-C,
143 by SIGTERM.)";

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

std::string did_you_mean(const std::string& word,
                         const std::vector<std::string>& candidates) {
  const auto guess = closest(word, candidates);
  return guess ? "; did you mean " + *guess + "?" : "";
}

/// "a, b or c", of at least two.
std::string list_of(const std::vector<std::string>& words) {
  std::string list = words.front();
  for (size_t i = 1; i < words.size(); ++i) {
    list += (i + 1 < words.size() ? ", " : " or ") + words[i];
  }
  return list;
}

class Program {
 public:
  Program(int argc, const char* const* argv) : argc_(argc), argv_(argv) {
    app_.require_subcommand(1);
    app_.set_version_flag(
        "--version",
        concat("colonnade ", version(), ", torch ", TORCH_VERSION_MAJOR, '.',
               TORCH_VERSION_MINOR, '.', TORCH_VERSION_PATCH));
    app_.footer(kFooter);
    app_.get_formatter()->column_width(28);
    commands_ = {add_train(app_, [this] { app_.parse(argc_, argv_); }),
                 add_generate(app_),
                 add_evaluate(app_),
                 add_trace(app_),
                 add_run(app_),
                 add_graph(app_),
                 add_bench(app_),
                 add_doctor(app_)};
    for (const Command& command : commands_) {
      command.options->get_formatter()->column_width(28);
    }
  }

  int run() {
    try {
      app_.parse(argc_, argv_);
    } catch (const CLI::Success& asked) {
      return app_.exit(asked);  // prints help or version
    } catch (const CLI::ParseError& error) {
      print_error(explain(error));
      return kUsage;
    }
    try {
      return active()->run();
    } catch (const InvalidArgument& error) {
      print_error(concat("colonnade: ", error.what()));
      return kUsage;
    } catch (const c10::Error& error) {
      print_error(concat("colonnade: ", error.what_without_backtrace()));
      return kFailed;
    } catch (const std::exception& error) {
      print_error(concat("colonnade: ", error.what()));
      return kFailed;
    }
  }

 private:
  const Command* active() const {
    const auto found = std::find_if(
        commands_.begin(), commands_.end(),
        [](const Command& command) { return command.options->parsed(); });
    return found != commands_.end() ? &*found : nullptr;
  }

  /// One line: what is wrong, the likely right thing, and where to read on.
  std::string explain(const CLI::ParseError& error) const {
    const Command* const command = active();
    const CLI::App& app = command != nullptr ? *command->options : app_;
    const std::string name =
        command != nullptr ? "colonnade " + app.get_name() : "colonnade";
    return concat(name, ": ", problem(app, error), " (", name,
                  " --help lists all)");
  }

  std::string problem(const CLI::App& app, const CLI::ParseError& error) const {
    // An unknown word is the likely reason for a missing one, so it goes first.
    const std::vector<std::string> unknown = app.remaining();
    if (!unknown.empty()) {
      const std::string& word = unknown.front();
      if (word.starts_with("-")) {
        const std::string option = word.substr(0, word.find('='));
        return concat("there is no option ", option,
                      did_you_mean(option, option_names(app)));
      }
      return &app == &app_
                 ? concat("there is no command ", word,
                          did_you_mean(word, command_names()))
                 : concat("does not know what to do with '", word, "'");
    }
    if (&app == &app_) {
      return "give a command: " + list_of(command_names());
    }
    std::string text = error.what();
    text[0] = static_cast<char>(std::tolower(text[0]));
    // CLI11 puts "--option: " in front of what a validator says.
    if (const size_t at = text.find(": takes "); at != std::string::npos) {
      text.erase(at, 1);
    }
    return text;
  }

  std::vector<std::string> command_names() const {
    std::vector<std::string> names;
    for (const Command& command : commands_) {
      names.push_back(command.options->get_name());
    }
    return names;
  }

  int argc_;
  const char* const* argv_;
  CLI::App app_{kAbout, "colonnade"};
  std::vector<Command> commands_;
};

}  // namespace
}  // namespace colonnade::cli

int main(int argc, char** argv) {
  try {
    return colonnade::cli::Program(argc, argv).run();
  } catch (const std::exception& error) {
    colonnade::cli::print_error(std::string("colonnade: ") + error.what());
    return colonnade::cli::kFailed;
  }
}
