// tests/models/training_curve_test.cpp
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/average_gradients.h"
#include "colonnade/parallel_layers/clip_grad_norm.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/models/model_ranks.h"

#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

#include <gtest/gtest.h>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;

constexpr int kSteps = 50;
constexpr int64_t kBatch = 4;  // over all data-parallel ranks
constexpr int64_t kSeq = 12;

/// The mean loss of the whole batch.
double mean_loss(const at::Tensor& loss) {
  at::Tensor sum = loss.detach().clone();
  ps::get_data_parallel_group()->all_reduce(sum);
  return sum.item<double>() / static_cast<double>(ps::get_data_parallel_size());
}

/// The loss of each step of a short training on tp * dp ranks.
std::vector<double> loss_curve(const LlamaOptions& options, int64_t tp,
                               int64_t dp = 1) {
  std::vector<double> curve;
  testing::run_model_ranks(
      tp,
      [&] {
        Llama model(options);
        torch::optim::AdamW optimizer(
            model->parameters(),
            torch::optim::AdamWOptions(3e-3).weight_decay(0.1));
        const int64_t rows = kBatch / ps::get_data_parallel_size();
        for (int step = 0; step < kSteps; ++step) {
          const at::Tensor window =
              testing::some_ids(kBatch, kSeq + 1, 29, /*seed=*/step % 3)
                  .narrow(0, ps::get_data_parallel_rank() * rows, rows);
          optimizer.zero_grad();
          const at::Tensor loss =
              model->loss(window.narrow(1, 0, kSeq), window.narrow(1, 1, kSeq));
          loss.backward();
          pl::average_gradients(*model);
          pl::clip_grad_norm(model->parameters(), 0.5);
          optimizer.step();
          const double value = mean_loss(loss);
          if (ps::get_world_group()->rank() == 0) {
            curve.push_back(value);
          }
        }
      },
      dp);
  return curve;
}

void expect_same_curve(const std::vector<double>& got,
                       const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t step = 0; step < got.size(); ++step) {
    ASSERT_NEAR(got[step], want[step], tolerance * want[step])
        << "at step " << step;
  }
}

struct Precision {
  at::ScalarType dtype;
  double tolerance;
};

class TrainingCurveTest : public ::testing::TestWithParam<Precision> {
 protected:
  static LlamaOptions options() {
    return testing::tiny_options().num_kv_heads(2).init_std(0.1).dtype(
        GetParam().dtype);
  }
};

TEST_P(TrainingCurveTest, IsTheSameAtEveryDegree) {
  const std::vector<double> want = loss_curve(options(), 1);
  EXPECT_LT(want.back(), 0.8 * want.front());
  for (const int64_t tp : {2, 4}) {
    SCOPED_TRACE(tp);
    expect_same_curve(loss_curve(options(), tp), want, GetParam().tolerance);
  }
}

TEST_P(TrainingCurveTest, IsTheSameSequenceParallelAndTied) {
  LlamaOptions tied = options().tie_embeddings(true);
  const std::vector<double> want = loss_curve(tied, 1);
  expect_same_curve(loss_curve(tied.sequence_parallel(true), 2), want,
                    GetParam().tolerance);
}

TEST_P(TrainingCurveTest, IsThatOfTwiceTheBatchWithTwoDataParallelRanks) {
  expect_same_curve(loss_curve(options(), /*tp=*/2, /*dp=*/2),
                    loss_curve(options(), /*tp=*/2), GetParam().tolerance);
}

INSTANTIATE_TEST_SUITE_P(Precisions, TrainingCurveTest,
                         ::testing::Values(Precision{at::kDouble, 1e-8},
                                           Precision{at::kFloat, 1e-3}));

}  // namespace
}  // namespace colonnade
