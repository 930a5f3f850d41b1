// tests/cli/commands_test.cpp
#include "colonnade/train/model_checkpoint.h"
#include "colonnade/train/train_options.h"
#include "tests/cli/run_program.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class CommandsTest : public testing::Test {
 protected:
  CommandsTest() {
    std::string words;
    for (int i = 0; i < 100; ++i) {
      words += "caf\u00e9 and tea, tea and caf\u00e9; ";
    }
    text = folder.write("text", words).string();
    out = (folder.path() / "run").string();
  }

  std::vector<std::string> train_arguments(
      const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "train", "--data",   text, "--out",     out,   "--hidden",
        "32",    "--layers", "1",  "--seq-len", "16",  "--batch",
        "4",     "--warmup", "5",  "--lr",      "0.01"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  TemporaryFolder folder;
  std::string text;
  std::string out;
};

TEST_F(CommandsTest, TrainEvaluateAndGenerateAtAnyDegree) {
  const std::string training = output_of(
      train_arguments({"--tp", "2", "--steps", "60", "--eval-every", "20"}));
  EXPECT_THAT(training, HasSubstr("tensor-parallel ranks 2"));
  EXPECT_THAT(training, HasSubstr("64 tokens a step"));
  EXPECT_THAT(training, ContainsRegex("step 60/60  loss [0-2]\\.[0-9]+  held-"
                                      "out [0-9.]+  [0-9,]+ tokens/s  0:00 "
                                      "left"));
  EXPECT_THAT(training, HasSubstr("Loss, nats a token"));
  EXPECT_THAT(training, HasSubstr("Done: step 60 of 60"));
  EXPECT_THAT(training, ContainsRegex("memory +rank 0 [0-9.]+ [KM]iB, rank 1 "
                                      "[0-9.]+ [KM]iB"));
  EXPECT_THAT(training, HasSubstr("step_000060"));
  EXPECT_THAT(training, Not(HasSubstr("\r")));  // plain: not a terminal
  const std::string csv = read_file(out + "/loss.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 61);
  EXPECT_THAT(read_file(out + "/loss.svg"), StartsWith("<svg"));

  const auto evaluate = [&](const std::string& tp) {
    const std::string result = output_of(
        {"evaluate", "--checkpoint", out, "--data", text, "--tp", tp});
    const size_t at = result.find("loss  ");
    return std::stod(result.substr(at + 4));
  };
  const double loss = evaluate("1");
  EXPECT_LT(loss, 2.0);
  EXPECT_NEAR(evaluate("2"), loss, 1e-5);

  const auto generate = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "generate", "--checkpoint", out, "--prompt",
        "tea and ", "--max-tokens", "40"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return output_of(arguments);
  };
  const std::string tokens = (folder.path() / "tokens").string();
  const std::string greedy = generate({"--tp", "2", "--tokens", tokens});
  EXPECT_THAT(greedy, StartsWith("tea and "));
  EXPECT_EQ(greedy, generate({"--tp", "1"}));
  const std::string rows = read_file(tokens);
  EXPECT_THAT(rows, StartsWith("byte,margin\n"));
  EXPECT_EQ(std::count(rows.begin(), rows.end(), '\n'), 41);

  const ProgramResult cut =
      run_program({"generate", "--checkpoint", out, "--prompt", "tea",
                   "--max-tokens", "4", "--tokens", "/dev/full"});
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_EQ(cut.err,
            "colonnade: --tokens: /dev/full has not taken all tokens; see "
            "whether its disk is full\n");

  const std::vector<std::string> drawn = {
      "--temperature", "1.5",  "--top-k", "20",
      "--top-p",       "0.99", "--seed",  "3"};
  EXPECT_EQ(generate(drawn), generate(drawn));
  EXPECT_NE(generate(drawn), greedy);
}

TEST_F(CommandsTest, AResumedRunTakesOverItsOptions) {
  output_of(train_arguments({"--tp", "2", "--steps", "6"}));
  const ProgramResult again = run_program(train_arguments({"--steps", "6"}));
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("has a run already, up to step_000006; add "
                                   "--resume to go on with it"));

  const std::string rest =
      output_of({"train", "--data", text, "--out", out, "--resume", "--steps",
                 "10", "--tp", "1"});
  EXPECT_THAT(rest, HasSubstr("64 tokens a step; going on after step 6"));
  EXPECT_THAT(rest, HasSubstr("Done: step 10 of 10"));
  const std::string csv = read_file(out + "/loss.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 11);

  const ProgramResult changed = run_program(
      {"train", "--data", text, "--out", out, "--resume", "--hidden", "64"});
  EXPECT_EQ(changed.exit_code, 2);
  EXPECT_THAT(changed.err, HasSubstr("train: --hidden cannot change when a run "
                                     "is resumed; leave it out"));

  const std::string other = (folder.path() / "other").string();
  EXPECT_THAT(output_of({"train", "--data", text, "--out", other, "--resume",
                         out + "/step_000006", "--steps", "7"}),
              HasSubstr("Done: step 7 of 7"));
}

TEST_F(CommandsTest, AResumedRunIsSplitAlongTheSequenceAsBefore) {
  const auto is_split = [&] {
    TrainOptions options;
    options.take_state(read_checkpoint_info(find_checkpoint(out)).train);
    return options.model.sequence_parallel();
  };
  output_of(train_arguments({"--steps", "2", "--sequence-parallel"}));
  EXPECT_TRUE(is_split());
  const auto resume = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"train", "--data", text,
                                          "--out", out,      "--resume"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    output_of(arguments);
  };
  resume({"--steps", "3"});
  EXPECT_TRUE(is_split());
  resume({"--steps", "4", "--sequence-parallel=false"});
  EXPECT_FALSE(is_split());
}

TEST_F(CommandsTest, CtrlCSavesAndEnds) {
  RunningProgram program(train_arguments({"--tp", "2", "--steps", "1000000"}));
  ASSERT_TRUE(program.wait_for_output("step "));
  program.send(SIGINT);
  const ProgramResult result = program.finish();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("Stopped after step"));
  EXPECT_TRUE(fs::exists(out + "/latest"));
  EXPECT_THAT(output_of({"evaluate", "--checkpoint", out, "--data", text}),
              HasSubstr("nats a byte"));
}

TEST(Doctor, ShowsWhatCanRunAndTriesIt) {
  const std::string text = output_of({"doctor", "--ranks", "3"});
  EXPECT_THAT(text, ContainsRegex("torch +[0-9.]+.* /.*libtorch_cpu.so"));
  EXPECT_THAT(text, HasSubstr("threads  can run: ranks are threads of this"));
  EXPECT_THAT(text, ContainsRegex("nccl +cannot: "));
  EXPECT_THAT(text, HasSubstr("3, threads of this process, over threads"));
  EXPECT_THAT(text, ContainsRegex("rank 2: host .+, process [0-9]+, cores "));
  EXPECT_THAT(text, ContainsRegex("all_reduce +8 B +[0-9.]+ [num]s"));
}

}  // namespace
}  // namespace colonnade
