// tests/train/trainer_test.cpp
#include "colonnade/train/trainer.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/train/model_checkpoint.h"
#include "colonnade/train/run_folder.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Notes what it hears, and stops a run after a step if asked to.
class Recorder : public TrainObserver {
 public:
  explicit Recorder(int64_t stop_after = 0) : stop_after_(stop_after) {}

  void on_start(const TrainStart& report) override { start = report; }
  void on_step(const StepReport& report) override {
    losses.push_back(report.loss);
    steps.push_back(report.step);
  }
  void on_evaluation(const EvaluationReport& report) override {
    evaluations.push_back(report);
  }
  void on_checkpoint(const std::filesystem::path& folder) override {
    checkpoints.push_back(folder.filename().string());
  }
  void on_end(const TrainEnd& report) override { end = report; }
  bool wants_to_stop() override {
    return stop_after_ > 0 &&
           static_cast<int64_t>(steps.size()) + 1 >= stop_after_;
  }

  TrainStart start{};
  std::vector<double> losses;
  std::vector<int64_t> steps;
  std::vector<EvaluationReport> evaluations;
  std::vector<std::string> checkpoints;
  TrainEnd end{};

 private:
  int64_t stop_after_;
};

struct Ranks {
  int tp = 1;
  int dp = 1;
};

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() : data(folder.write("text", text()), /*seq_len=*/16, 0.2) {
    options.model.hidden_size(32).intermediate_size(48).num_layers(1);
    options.model.num_heads(4).max_positions(16).dtype(at::kDouble);
    options.steps = 12;
    options.batch_size = 4;
    options.learning_rate = 1e-2;
    options.warmup_steps = 2;
    options.eval_every = 0;
  }

  static std::string text() {
    std::string text;
    for (int i = 0; i < 60; ++i) {
      text += "the quick brown fox jumps over the lazy dog; ";
    }
    return text;
  }

  Recorder run(const Ranks& ranks, int64_t stop_after = 0) {
    Recorder recorder(stop_after);
    run_ranks(ranks.tp * ranks.dp, [&] {
      parallel_state::initialize_model_parallel(ranks.tp);
      train(options, data, recorder);
    });
    return recorder;
  }

  static void expect_close(const std::vector<double>& got,
                           const std::vector<double>& want, double tolerance) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], want[i], tolerance * want[i]) << "step " << i + 1;
    }
  }

  TemporaryFolder folder;
  TextData data;
  TrainOptions options;
};

TEST_F(TrainerTest, TheLossFalls) {
  options.steps = 60;
  options.eval_every = 20;
  options.model.dtype(at::kFloat);
  const Recorder run = this->run({.tp = 2});
  EXPECT_NEAR(run.losses.front(), std::log(256), 0.1);
  EXPECT_LT(run.losses.back(), 2.0);
  ASSERT_EQ(run.evaluations.size(), 3u);
  EXPECT_LT(run.evaluations[2].loss, run.evaluations[0].loss);
  EXPECT_EQ(run.evaluations[2].step, 60);
  EXPECT_FALSE(run.end.interrupted);
}

TEST_F(TrainerTest, EveryDegreeLearnsAlike) {
  const Recorder one = run({});
  for (const int tp : {2, 4}) {
    const Recorder run = this->run({.tp = tp});
    expect_close(run.losses, one.losses, 1e-8);
    EXPECT_EQ(run.start.parameters, one.start.parameters);
    EXPECT_EQ(run.end.peak_memory_bytes.size(), static_cast<size_t>(tp));
  }
}

TEST_F(TrainerTest, SequenceParallelismChangesNothing) {
  const Recorder plain = run({.tp = 2});
  options.model.sequence_parallel(true);
  expect_close(run({.tp = 2}).losses, plain.losses, 1e-8);
}

TEST_F(TrainerTest, ReplicasAndPartsOfABatchAreOneBatch) {
  options.batch_size = 8;
  const Recorder whole = run({.tp = 2});
  options.batch_size = 4;
  const Recorder replicas = run({.tp = 2, .dp = 2});
  expect_close(replicas.losses, whole.losses, 1e-8);
  EXPECT_EQ(replicas.start.tokens_per_step, whole.start.tokens_per_step);
  options.accumulation = 2;
  expect_close(run({.tp = 2}).losses, whole.losses, 1e-8);
}

TEST_F(TrainerTest, LearnsInBfloat16) {
  options.model.dtype(at::kBFloat16);
  options.steps = 30;
  const Recorder run = this->run({.tp = 2});
  EXPECT_LT(run.losses.back(), run.losses.front() - 1);
}

TEST_F(TrainerTest, AResumedRunIsBitEqual) {
  const Recorder whole = run({.tp = 2});
  options.out = folder.path() / "run";
  const Recorder first = run({.tp = 2}, /*stop_after=*/5);
  EXPECT_TRUE(first.end.interrupted);
  EXPECT_EQ(first.end.step, 5);
  EXPECT_THAT(first.checkpoints, ElementsAre("step_000005"));
  options.resume_from = *RunFolder(options.out).newest();
  const Recorder rest = run({.tp = 2});
  EXPECT_EQ(rest.start.first_step, 5);
  EXPECT_EQ(rest.steps.front(), 6);
  std::vector<double> losses = first.losses;
  losses.insert(losses.end(), rest.losses.begin(), rest.losses.end());
  EXPECT_EQ(losses, whole.losses);
}

TEST_F(TrainerTest, AResumedRunHasTheOptionsThatItIsGiven) {
  options.model.sequence_parallel(true);
  options.out = folder.path() / "run";
  run({.tp = 2}, /*stop_after=*/5);
  options.resume_from = *RunFolder(options.out).newest();
  const auto resumed = [&](const char* out) {
    options.out = folder.path() / out;
    return run({.tp = 2}).losses;
  };
  const std::vector<double> as_before = resumed("as_before");
  options.weight_decay = 10;
  const std::vector<double> decayed = resumed("decayed");
  EXPECT_EQ(decayed[0], as_before[0]);  // of the checkpoint's weights
  EXPECT_GT(std::abs(decayed[1] - as_before[1]), 1e-3);
  TrainOptions again;
  again.take_state(read_checkpoint_info(find_checkpoint(options.out)).train);
  EXPECT_EQ(again.weight_decay, 10);
  EXPECT_TRUE(again.model.sequence_parallel());
}

TEST_F(TrainerTest, ResumesAtAnotherDegree) {
  const Recorder whole = run({.tp = 2});
  options.out = folder.path() / "run";
  const Recorder first = run({.tp = 2}, /*stop_after=*/5);
  options.resume_from = *RunFolder(options.out).newest();
  for (const int tp : {1, 4}) {
    options.out = folder.path() / concat("run", tp);
    const Recorder rest = run({.tp = tp});
    std::vector<double> losses = first.losses;
    losses.insert(losses.end(), rest.losses.begin(), rest.losses.end());
    expect_close(losses, whole.losses, 1e-8);
  }
}

TEST_F(TrainerTest, KeepsTheLastCheckpoints) {
  options.out = folder.path() / "run";
  options.save_every = 3;
  options.keep = 2;
  const Recorder run = this->run({.tp = 2});
  EXPECT_THAT(run.checkpoints, ElementsAre("step_000003", "step_000006",
                                           "step_000009", "step_000012"));
  EXPECT_THAT(RunFolder(options.out).steps(), ElementsAre(9, 12));
}

TEST_F(TrainerTest, ACheckpointSaysHowItsModelIsBuilt) {
  options.out = folder.path() / "run";
  run({.tp = 2});
  const auto newest = find_checkpoint(options.out);
  EXPECT_EQ(find_checkpoint(newest), newest);
  const CheckpointInfo info = read_checkpoint_info(newest);
  EXPECT_EQ(info.step, 12);
  EXPECT_EQ(info.seq_len, 16);
  EXPECT_DOUBLE_EQ(info.eval_fraction, 0.2);
  EXPECT_EQ(info.model.hidden_size(), 32);
  EXPECT_EQ(info.model.dtype(), at::kDouble);
  TrainOptions again;
  again.take_state(info.train);
  EXPECT_EQ(again.batch_size, options.batch_size);
  EXPECT_DOUBLE_EQ(again.learning_rate, options.learning_rate);
}

TEST_F(TrainerTest, SaysWhatItCannotDo) {
  EXPECT_THAT(
      error_of<CheckpointError>([&] { find_checkpoint(folder.path()); }),
      HasSubstr("no checkpoint here; name the folder of a run"));
  options.out = folder.path() / "run";
  run({});
  options.resume_from = find_checkpoint(options.out);
  EXPECT_THAT(error_of<InvalidArgument>([&] { run({}); }),
              HasSubstr("is at step 12 already, and the run has 12; give more "
                        "steps to go on"));
  options.resume_from.clear();
  options.learning_rate = 1e30;
  EXPECT_THAT(error_of<Error>([&] { run({.tp = 2}); }),
              HasSubstr("lower the learning rate, or warm up longer"));
  options.steps = 0;
  EXPECT_EQ(error_of<InvalidArgument>([&] { run({}); }),
            "TrainOptions: steps is 0; it must be at least 1");
}

}  // namespace
}  // namespace colonnade
