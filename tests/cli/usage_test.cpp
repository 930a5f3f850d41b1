// tests/cli/usage_test.cpp
#include "colonnade/core/version.h"
#include "tests/cli/run_program.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// Expects one line on standard error, nothing else, and exit code 2.
void expect_usage_error(const std::vector<std::string>& arguments,
                        const std::string& line) {
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, line + "\n");
}

TEST(Usage, HelpTeaches) {
  const ProgramResult result = run_program({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* text :
       {"Usage: colonnade", "train", "generate", "evaluate", "trace", "run",
        "graph", "bench",
        "Begin with:", "colonnade train --data book.txt --out run --tp 2",
        "Exit codes: 0 done, 1 failed, 2 wrong command line, 130 ended by "
        "Ctrl-C,\n143 by SIGTERM."}) {
    EXPECT_THAT(result.out, HasSubstr(text));
  }
}

TEST(Usage, EachCommandHasExamplesAndDefaults) {
  const std::string train = run_program({"train", "--help"}).out;
  for (const char* text :
       {"Usage: colonnade train", "Run:", "Model:", "Learning:", "--tp INT=1",
        "--resume [FOLDER]", "Examples:",
        "colonnade train --data book.txt --out run --resume --tp 4",
        "Ctrl-C ends the run after the step it is in, with a checkpoint."}) {
    EXPECT_THAT(train, HasSubstr(text));
  }
  const std::string generate = run_program({"generate", "--help"}).out;
  for (const char* text : {"--temperature", "--top-k", "--top-p",
                           "colonnade generate --checkpoint run --prompt"}) {
    EXPECT_THAT(generate, HasSubstr(text));
  }
  for (const auto& [command, text] :
       std::vector<std::pair<std::string, std::string>>{
           {"trace", "colonnade trace --checkpoint run --out traced --tp 2"},
           {"run", "colonnade run traced --prompt \"It was \""},
           {"graph", "colonnade graph traced --profile --seq 1"},
           {"bench", "colonnade bench traced --tp 1 --seq 16,64"}}) {
    EXPECT_THAT(run_program({command, "--help"}).out, HasSubstr(text));
  }
  EXPECT_THAT(run_program({"evaluate", "--help"}).out,
              HasSubstr("colonnade evaluate --checkpoint run --data book.txt"));
}

TEST(Usage, VersionNamesTheLibraryAndTorch) {
  const ProgramResult result = run_program({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out,
              StartsWith(std::string("colonnade ") + version() + ", torch 2."));
}

TEST(Usage, AWrongWordGetsASuggestion) {
  expect_usage_error({"train", "--step", "5"},
                     "colonnade train: there is no option --step; did you mean "
                     "--steps? (colonnade train --help lists all)");
  expect_usage_error({"generate", "--temprature=1"},
                     "colonnade generate: there is no option --temprature; did "
                     "you mean --temperature? (colonnade generate --help lists "
                     "all)");
  expect_usage_error({"tain"},
                     "colonnade: there is no command tain; did you mean train? "
                     "(colonnade --help lists all)");
  expect_usage_error(
      {"grahp"},
      "colonnade: there is no command grahp; did you mean graph? "
      "(colonnade --help lists all)");
  expect_usage_error({"run", "traced", "--promt", "a"},
                     "colonnade run: there is no option --promt; did you mean "
                     "--prompt? (colonnade run --help lists all)");
  expect_usage_error({"train", "--colour"},
                     "colonnade train: there is no option --colour (colonnade "
                     "train --help lists all)");
}

TEST(Usage, AMissingOrWrongValueIsOneLine) {
  expect_usage_error({},
                     "colonnade: give a command: train, generate, evaluate, "
                     "trace, run, graph, bench or doctor (colonnade --help "
                     "lists all)");
  expect_usage_error({"train", "--out", "x"},
                     "colonnade train: --data is required (colonnade train "
                     "--help lists all)");
  expect_usage_error(
      {"train", "--data", "x", "--out", "y", "--steps", "many"},
      "colonnade train: --steps takes a whole number of at least 1, not 'many' "
      "(colonnade train --help lists all)");
  expect_usage_error(
      {"train", "--data", "x", "--out", "y", "--tp", "0"},
      "colonnade train: --tp takes a whole number of at least 1, not '0' "
      "(colonnade train --help lists all)");
  expect_usage_error(
      {"generate", "--checkpoint", "x", "--prompt", "y", "--top-p", "1.5"},
      "colonnade generate: --top-p takes a number from 0 to 1, not '1.5' "
      "(colonnade generate --help lists all)");
}

TEST(Usage, TracedModelsAreAskedForInTheSameWay) {
  for (const std::string command : {"run", "graph", "bench"}) {
    const std::string name = "colonnade " + command;
    const std::string help = " (" + name + " --help lists all)";
    expect_usage_error({command, "traced", "--tp", "0"},
                       name +
                           ": --tp takes a whole number of at least 1, not "
                           "'0'" +
                           help);
    expect_usage_error({command, "--tp", "2"},
                       name + ": folder is required" + help);
  }
  expect_usage_error(
      {"trace", "--checkpoint", "x", "--out", "y", "--tp", "0"},
      "colonnade trace: --tp takes a whole number of at least 1, not '0' "
      "(colonnade trace --help lists all)");
  expect_usage_error(
      {"trace", "--checkpoint", "x", "--out", "y", "--dtype", "int8"},
      "colonnade trace: --dtype takes float32, bfloat16 or float64, not 'int8' "
      "(colonnade trace --help lists all)");
  expect_usage_error(
      {"bench", "traced", "--seq", "4,none"},
      "colonnade bench: --seq takes a whole number of at least 1, not 'none' "
      "(colonnade bench --help lists all)");
}

TEST(Usage, ErrorsOfTheLibraryAreOneLine) {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "run").string();
  const std::string text =
      folder.write("text", std::string(2000, 'a')).string();
  expect_usage_error({"train", "--data", "none", "--out", out},
                     "colonnade: TextData: cannot open none: No such file or "
                     "directory");
  const ProgramResult heads = run_program(
      {"train", "--data", text, "--out", out, "--tp", "3", "--steps", "1"});
  EXPECT_EQ(heads.exit_code, 2);
  EXPECT_THAT(heads.err,
              StartsWith("colonnade: Llama: num_heads 4 does not divide over 3 "
                         "tensor-parallel ranks"));
  EXPECT_EQ(std::count(heads.err.begin(), heads.err.end(), '\n'), 1);
  const ProgramResult checkpoint =
      run_program({"generate", "--checkpoint", out, "--prompt", "a"});
  EXPECT_EQ(checkpoint.exit_code, 1);
  EXPECT_THAT(checkpoint.err, HasSubstr("no checkpoint here; name the folder "
                                        "of a run"));
}

}  // namespace
}  // namespace colonnade
