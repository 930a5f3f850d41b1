// tests/cli/traced_commands_test.cpp
#include "tests/cli/run_program.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

/// A run of a small model, and what it makes, in one folder.
class TracedCommandsTest : public testing::Test {
 protected:
  std::string at(const std::string& name) const {
    return (folder.path() / name).string();
  }

  void train(const std::string& steps) const {
    std::string words;
    for (int i = 0; i < 100; ++i) {
      words += "bread and tea, tea and butter; ";
    }
    const std::string text = folder.write("text", words).string();
    output_of({"train", "--data",   text, "--out",      at("run"), "--hidden",
               "32",    "--layers", "2",  "--kv-heads", "2",       "--seq-len",
               "16",    "--batch",  "4",  "--warmup",   "5",       "--lr",
               "0.01",  "--tp",     "2",  "--steps",    steps});
  }

  std::string trace(const std::string& out,
                    const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"trace", "--checkpoint", at("run"),
                                          "--out", at(out)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return output_of(arguments);
  }

  /// A text that outgrows the window, and its tokens in `file`.
  std::string write_text(std::vector<std::string> arguments,
                         const std::string& file) const {
    for (const std::string& more :
         {std::string("--prompt"), std::string("tea and "),
          std::string("--max-tokens"), std::string("40"),
          std::string("--tokens"), at(file)}) {
      arguments.push_back(more);
    }
    return output_of(arguments);
  }

  /// Whether two files of tokens are alike, up to a token at which rounding
  /// decides.
  void expect_same_tokens(const std::string& a, const std::string& b) const {
    std::istringstream rows_a(read_file(at(a)));
    std::istringstream rows_b(read_file(at(b)));
    std::string row_a;
    std::string row_b;
    std::getline(rows_a, row_a);
    std::getline(rows_b, row_b);
    EXPECT_EQ(row_a, row_b);
    for (int i = 0; i < 40; ++i) {
      ASSERT_TRUE(std::getline(rows_a, row_a) && std::getline(rows_b, row_b));
      const size_t comma_a = row_a.find(',');
      const size_t comma_b = row_b.find(',');
      if (row_a.substr(0, comma_a) != row_b.substr(0, comma_b)) {
        EXPECT_LT(std::stod(row_a.substr(comma_a + 1)), 1e-4);
        EXPECT_LT(std::stod(row_b.substr(comma_b + 1)), 1e-4);
        return;
      }
    }
  }

  TemporaryFolder folder;
};

TEST_F(TracedCommandsTest, RunWritesWhatGenerateWrites) {
  train("60");
  EXPECT_THAT(trace("traced", {"--tp", "2"}),
              AllOf(ContainsRegex("run/step_000060 traced into .*/traced in "
                                  "[0-9.]+ s\n"),
                    HasSubstr("input 0: int64 [1, s0], any s0"),
                    HasSubstr("output   float32 [1, 256]"),
                    HasSubstr("degree   2, or any other"),
                    ContainsRegex("on disk  [0-9.]+ KiB")));
  for (const std::string tp : {"1", "2"}) {
    const std::string eager =
        write_text({"generate", "--checkpoint", at("run"), "--tp", tp}, "a");
    EXPECT_THAT(eager, StartsWith("tea and "));
    EXPECT_EQ(
        write_text({"run", at("traced"), "--tp", tp, "--no-optimize"}, "b"),
        eager);
    EXPECT_EQ(read_file(at("b")), read_file(at("a")));
    write_text({"run", at("traced"), "--tp", tp}, "c");
    expect_same_tokens("c", "a");
  }
  const std::vector<std::string> drawn = {"run", at("traced"), "--temperature",
                                          "1.5", "--seed",     "3"};
  EXPECT_EQ(write_text(drawn, "a"), write_text(drawn, "b"));
}

TEST_F(TracedCommandsTest, ServesWithoutTheCodeOfTheModel) {
  if (!example_exists("serve")) {
    GTEST_SKIP() << "the examples are not built";
  }
  train("40");
  trace("traced", {"--tp", "2"});
  std::string texts;
  for (const std::string prompt : {"tea and ", "b"}) {
    texts += output_of(
        {"run", at("traced"), "--prompt", prompt, "--max-tokens", "7"});
  }
  const ProgramResult served =
      run_example("serve", {at("traced"), "2", "7"}, "tea and \n\nb\n");
  EXPECT_EQ(served.err, "");
  EXPECT_EQ(served.exit_code, 0);
  EXPECT_EQ(served.out, texts);

  const ProgramResult none = run_example("serve", {at("run")}, "b\n");
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, StartsWith("serve: "));
  EXPECT_EQ(run_example("serve", {}, "").exit_code, 2);
}

TEST_F(TracedCommandsTest, ShowAndTimeWhatWasTraced) {
  train("2");
  EXPECT_THAT(trace("traced", {"--dtype", "bfloat16", "--max-length", "12"}),
              AllOf(HasSubstr("degree   1, or any other"),
                    HasSubstr("output   bfloat16 [1, 256]")));
  const std::string table = output_of({"graph", at("traced"), "--no-optimize"});
  EXPECT_THAT(table,
              AllOf(ContainsRegex("calls +[0-9]+; ops: [0-9]+; collectives: "
                                  "[0-9]+\n"),
                    HasSubstr("states   5, "), HasSubstr("cache.length"),
                    ContainsRegex("op +calls +results\n"),
                    ContainsRegex("\ncolonnade::row_parallel_linear +4 "),
                    ContainsRegex("\ntotal +[0-9]+ ")));

  const std::string profile =
      output_of({"graph", at("traced"), "--profile", "--seq", "3", "--tp", "2",
                 "--rounds", "2", "--svg", at("picture.svg")});
  EXPECT_THAT(profile,
              AllOf(ContainsRegex("op +calls +results +time +share\n"),
                    ContainsRegex("total .* 100.0%\n"),
                    ContainsRegex("A pass on 2 ranks takes [0-9.]+ [um]s"),
                    HasSubstr("picture.svg")));
  EXPECT_THAT(read_file(at("picture.svg")),
              AllOf(StartsWith("<svg"),
                    HasSubstr("model.layers.0 \u2026 model.layers.1"),
                    HasSubstr("class='collective'")));

  const std::string text =
      output_of({"graph", at("traced"), "--text", "--no-optimize"});
  EXPECT_THAT(text, AllOf(StartsWith("graph recorded at"),
                          HasSubstr("cached_attention"), HasSubstr("return")));

  const std::string times =
      output_of({"bench", "--seq", "2,12", at("traced"), "--rounds", "2"});
  EXPECT_THAT(times, AllOf(HasSubstr("on 1 rank, 2 rounds"),
                           ContainsRegex("\n +median +p10 +p90 +tokens/s\n"),
                           ContainsRegex("\nprefill, 2 tokens .* [0-9,]+\n"),
                           ContainsRegex("\nprefill, 12 tokens "),
                           ContainsRegex("\ndecoding, up to position 12 "),
                           ContainsRegex("\nempty call")));
}

/// Expects the exit code, nothing on standard output, and one line of error.
void expect_error(const std::vector<std::string>& arguments, int exit_code,
                  const std::string& line) {
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, exit_code);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr(line));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
}

TEST_F(TracedCommandsTest, SayWhatIsWrongInOneLine) {
  train("2");
  expect_error({"trace", "--checkpoint", at("run"), "--out", at("run")}, 2,
               "run has something else in it; give --out a new folder");
  expect_error({"trace", "--checkpoint", at("run"), "--out", at("traced"),
                "--max-length", "17"},
               2, "max_length 17 is more than the model's max_positions 16");
  EXPECT_FALSE(fs::exists(at("traced")));
  expect_error({"run", at("run/step_000002"), "--prompt", "a"}, 1,
               "run/step_000002: no traced model here; make one of a run with "
               "colonnade trace --checkpoint RUN --out ");
  expect_error({"graph", at("nothing")}, 1, "nothing: no traced model here");

  trace("traced", {"--batch", "3"});
  trace("traced", {"--batch", "2"});  // over an earlier one
  expect_error({"run", at("traced"), "--prompt", "a"}, 2,
               "this traced model does not write text: it reads 2 texts at a "
               "time, not one");
  expect_error({"run", at("traced"), "--prompt", ""}, 2,
               "--prompt is empty; give at least one character");
  expect_error({"graph", at("traced"), "--tp", "3"}, 2,
               "traced: does not run on 3 ranks, though on 1, as it was "
               "traced: ");
  expect_error({"graph", at("traced"), "--tp", "2", "--backend", "gloo"}, 2,
               "--backend gloo: its ranks are processes, and no launcher "
               "started more than this one");
  expect_error({"graph", at("traced"), "--tp", "2", "--backend", "self"}, 2,
               "self: one rank, not 2; the backend threads makes more");
  expect_error({"bench", at("traced"), "--seq", "17"}, 2,
               "--seq is 17, but the cache of this model holds 16 positions");
  expect_error({"graph", at("traced"), "--profile", "--batch", "5"}, 2,
               "--batch is 5, but dim 0 of input 0 of this traced model is "
               "fixed to 2");
  expect_error({"graph", at("traced"), "--svg", at("no/where.svg")}, 2,
               "--svg: cannot write ");
  expect_error({"graph", at("traced"), "--svg", at("run/../traced/a.svg")}, 2,
               "a.svg, in the traced model itself");
}

}  // namespace
}  // namespace colonnade
