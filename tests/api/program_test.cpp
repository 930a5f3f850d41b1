// tests/api/program_test.cpp
// What holds for a program as a whole.
#include "colonnade/models/llama.h"
#include "tests/api/mlp.h"
#include "tests/testing/expect.h"

#include <ATen/ops/all.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <thread>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;
using testing::expect_close;
using testing::expect_equal;

int64_t entries_of(const char* folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

struct Trained {
  std::vector<double> losses;
  at::Tensor up, down, bias;  // whole
};

/// Five steps of the Mlp at `ranks` ranks, seeded with 1.
Trained train(int ranks, at::ScalarType dtype, at::Device device = at::kCPU) {
  Trained result;
  run_ranks(ranks, [&](int rank) {
    ps::initialize_model_parallel(ranks);
    manual_seed(1);
    Mlp model(12, dtype, device);
    if (device.is_meta()) {
      pl::move_model_to_device(*model, at::kCPU);
      model->up->reset_parameters();
      model->down->reset_parameters();
    }
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    const at::Tensor x = at::randn({4, 3, 12}).to(dtype);
    std::vector<double> losses;
    for (int step = 0; step < 5; ++step) {
      optimizer.zero_grad();
      const at::Tensor loss = (model(x) - x).to(at::kDouble).square().mean();
      loss.backward();
      pl::clip_grad_norm(model->parameters(), 1.0);
      optimizer.step();
      losses.push_back(loss.item<double>());
    }
    const at::Tensor up = pl::gather_parameter(model->up->weight);
    const at::Tensor down = pl::gather_parameter(model->down->weight);
    if (rank == 0) {
      result = {losses, up, down, pl::gather_parameter(model->down->bias)};
    }
  });
  return result;
}

void expect_same_training(const Trained& got, const Trained& want,
                          double tolerance) {
  for (size_t i = 0; i < want.losses.size(); ++i) {
    EXPECT_NEAR(got.losses[i], want.losses[i], tolerance) << "step " << i;
  }
  expect_close(got.up, want.up, tolerance, "up");
  expect_close(got.down, want.down, tolerance, "down");
  expect_close(got.bias, want.bias, tolerance, "bias");
}

TEST(Program, TrainsAlikeAtEveryDegreeInEveryDtype) {
  struct Case {
    at::ScalarType dtype;
    double tolerance;  // a few units in the last place of numbers near 1
  };
  for (const Case& c : {Case{at::kDouble, 1e-12}, Case{at::kFloat, 1e-5},
                        Case{at::kHalf, 5e-3}, Case{at::kBFloat16, 4e-2}}) {
    SCOPED_TRACE(c.dtype);
    const Trained whole = train(1, c.dtype);
    EXPECT_LT(whole.losses.back(), whole.losses.front());
    EXPECT_EQ(whole.up.scalar_type(), c.dtype);
    for (const int ranks : {2, 3, 4}) {
      SCOPED_TRACE(ranks);
      expect_same_training(train(ranks, c.dtype), whole, c.tolerance);
    }
  }
}

TEST(Program, AModelMovedFromMetaTrainsAsOneMadeThere) {
  for (const int ranks : {1, 2}) {
    const Trained got = train(ranks, at::kFloat, at::kMeta);
    const Trained want = train(ranks, at::kFloat);
    EXPECT_EQ(got.losses, want.losses);
    expect_equal(got.up, want.up);
    expect_equal(got.down, want.down);
  }
}

TEST(Program, TwoModelsDoNotDisturbEachOther) {
  run_ranks(2, [] {
    ps::initialize_model_parallel(2);
    const at::Tensor x = at::ones({2, 8});
    manual_seed(1);
    Mlp a(8);
    const at::Tensor alone = a(x);
    alone.sum().backward();
    const at::Tensor grad = a->up->weight.grad().clone();
    a->zero_grad();

    manual_seed(2);
    Mlp b(8);
    const at::Tensor ya = a(x);
    const at::Tensor yb = b(x);
    yb.sum().backward();
    EXPECT_FALSE(a->up->weight.grad().defined());
    ya.sum().backward();
    expect_equal(ya, alone);
    expect_equal(a->up->weight.grad(), grad);
    EXPECT_FALSE(at::equal(ya, yb));
  });
}

TEST(Program, ChangesItsDegreeWhileItRuns) {
  run_ranks(4, [](int rank) {
    const at::Tensor x = at::ones({2, 8}, at::kDouble);
    at::Tensor first;
    for (const int tp : {1, 2, 4, 2, 1}) {
      ps::initialize_model_parallel(tp);
      EXPECT_EQ(ps::get_tensor_model_parallel_rank(), rank % tp);
      EXPECT_EQ(ps::get_data_parallel_size(), 4 / tp);
      manual_seed(1);
      Mlp model(8, at::kDouble);
      const at::Tensor y = model(x);
      first = first.defined() ? first : y.detach();
      expect_close(y, first, 1e-12);
      ps::destroy_model_parallel();
    }
  });
}

TEST(Program, AHundredRunsLeaveNeitherThreadsNorFilesOpen) {
  const auto run = [] {
    run_ranks(3, [] {
      ps::initialize_model_parallel(3);
      Mlp model(6);
      model(at::ones({2, 6})).sum().backward();
    });
  };
  run();  // torch's own pools start here
  const int64_t threads = entries_of("/proc/self/task");
  const int64_t files = entries_of("/proc/self/fd");
  for (int i = 0; i < 100; ++i) {
    run();
  }
  // A thread that is joined may be listed for a moment more.
  for (int i = 0; i < 500 && entries_of("/proc/self/task") > threads; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(entries_of("/proc/self/task"), threads);
  EXPECT_EQ(entries_of("/proc/self/fd"), files);
}

TEST(Program, AnEmptyBatchGoesThroughAWholeModel) {
  for (const int ranks : {1, 2}) {
    for (const bool tied : {false, true}) {
      run_ranks(ranks, [&] {
        ps::initialize_model_parallel(ranks);
        Llama model(LlamaOptions(11)
                        .hidden_size(8)
                        .intermediate_size(6)
                        .num_layers(1)
                        .num_heads(2)
                        .tie_embeddings(tied)
                        .max_positions(8));
        const at::Tensor ids = at::zeros({0, 4}, at::kLong);
        EXPECT_EQ(model(ids).sizes(), (std::vector<int64_t>{0, 4, 11}));
        torch::optim::AdamW optimizer(model->parameters(), 0.1);
        // A mean over nothing is nan, in torch too; its gradients are not.
        model->loss(ids, ids).backward();
        for (const at::Tensor& parameter : model->parameters()) {
          ASSERT_TRUE(parameter.grad().defined());
          EXPECT_EQ(parameter.grad().count_nonzero().item<int64_t>(), 0);
        }
        EXPECT_EQ(pl::clip_grad_norm(model->parameters(), 1.0).item<float>(),
                  0);
        optimizer.step();
      });
    }
  }
}

TEST(Program, SizesOfZeroAreSizes) {
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&] {
      ps::initialize_model_parallel(ranks);
      for (const auto& [in, out] :
           {std::pair<int64_t, int64_t>{0, 6}, {6, 0}, {0, 0}}) {
        SCOPED_TRACE(::testing::Message() << in << " to " << out);
        const auto check = [&](auto layer) {
          at::Tensor x = at::ones({2, in}).requires_grad_();
          const at::Tensor y = layer(x);
          // Nothing is multiplied, and the bias's bound is 0, as in Python.
          expect_equal(y, at::zeros({2, out}));
          y.sum().backward();
          expect_equal(x.grad(), at::zeros({2, in}));
          expect_equal(pl::gather_parameter(layer->weight),
                       at::zeros({out, in}));
          expect_equal(layer->weight.grad(), at::zeros_like(layer->weight));
          EXPECT_TRUE(at::all(layer->bias.grad() == 2).template item<bool>());
        };
        check(pl::ColumnParallelLinear(in, out));
        check(pl::RowParallelLinear(in, out));
      }
      const at::Tensor none = at::zeros({2, 0}, at::kLong);
      for (const auto& [rows, dim] :
           {std::pair<int64_t, int64_t>{0, 3}, {3, 0}, {0, 0}, {3, 2}}) {
        SCOPED_TRACE(::testing::Message() << rows << " of " << dim);
        pl::ParallelEmbedding table(rows, dim);
        const at::Tensor y = table(none);
        EXPECT_EQ(y.sizes(), (std::vector<int64_t>{2, 0, dim}));
        y.sum().backward();
        expect_equal(table->weight.grad(), at::zeros_like(table->weight));
      }
    });
  }
}

}  // namespace
}  // namespace colonnade
