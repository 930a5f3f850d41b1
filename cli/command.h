// cli/command.h
#pragma once

#include "colonnade/launch/launch.h"

#include <functional>
#include <string>

namespace CLI {
class App;
}

namespace colonnade::cli {

/// A subcommand: its options, and what it does once they are read.
struct Command {
  CLI::App* options;
  std::function<int()> run;  ///< Returns the program's exit code.
};

/// Reads the command line once more into the variables of the options, so that
/// those given win over values that came from elsewhere meanwhile.
using ReadAgain = std::function<void()>;

/// For `launch`: thread ranks, where no launcher made any.
///
/// backend  a name of the backend table; empty: the one that fits
LaunchOptions threads(int count, const std::string& backend);

Command add_train(CLI::App& program, const ReadAgain& read_again);
Command add_generate(CLI::App& program);
Command add_evaluate(CLI::App& program);
Command add_trace(CLI::App& program);
Command add_run(CLI::App& program);
Command add_graph(CLI::App& program);
Command add_bench(CLI::App& program);
Command add_doctor(CLI::App& program);

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;  ///< The command line is wrong.

}  // namespace colonnade::cli
