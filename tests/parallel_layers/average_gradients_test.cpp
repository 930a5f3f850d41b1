// tests/parallel_layers/average_gradients_test.cpp
#include "colonnade/parallel_layers/average_gradients.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace ps = parallel_state;
using at::Tensor;
using testing::expect_close;
using testing::expect_throw;
using testing::run_tensor_parallel;

using Shapes = std::vector<std::vector<int64_t>>;

/// A module of parameters p0, p1 … of these shapes.
struct Bag : torch::nn::Module {
  explicit Bag(const Shapes& shapes, at::ScalarType dtype = at::kDouble) {
    for (const auto& shape : shapes) {
      add(at::zeros(shape, dtype));
    }
  }

  Tensor& add(const Tensor& parameter) {
    return register_parameter(concat("p", named_parameters().size()),
                              parameter);
  }
};

/// What `rank` has as the gradient of a model's i-th parameter.
Tensor gradient(const Tensor& parameter, size_t i, int64_t rank) {
  return at::linspace(-1, 1, parameter.numel(), at::kDouble)
      .mul(1.0 + 0.7 * static_cast<double>(rank))
      .add(0.3 * static_cast<double>(i * static_cast<size_t>(rank)))
      .view(parameter.sizes())
      .to(parameter.scalar_type());
}

void set_gradients(torch::nn::Module& model, int64_t rank) {
  const std::vector<Tensor> parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].mutable_grad() = gradient(parameters[i], i, rank);
  }
}

Tensor mean_gradient(const Tensor& parameter, size_t i,
                     const std::vector<int64_t>& ranks) {
  Tensor sum = at::zeros_like(parameter);
  for (const int64_t rank : ranks) {
    sum += gradient(parameter, i, rank);
  }
  return sum / static_cast<double>(ranks.size());
}

void expect_mean(const torch::nn::Module& model,
                 const std::vector<int64_t>& ranks, double tolerance = 1e-10) {
  const std::vector<Tensor> parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    SCOPED_TRACE(i);
    expect_close(parameters[i].grad(),
                 mean_gradient(parameters[i].detach(), i, ranks), tolerance);
  }
}

class AverageGradientsTest : public ::testing::TestWithParam<int> {};

TEST_P(AverageGradientsTest, AveragesOverTheDataParallelGroup) {
  run_on_ranks(GetParam(), [&](int rank) {
    ps::initialize_model_parallel(1);
    // Small ones, one that goes by itself, none at all, one of another dtype.
    Bag model(Shapes{{3, 5}, {400, 500}, {0, 4}, {7}, {}});
    model.add(at::zeros({2, 3}, at::kFloat));
    set_gradients(model, rank);
    average_gradients(model);
    std::vector<int64_t> ranks = ps::get_data_parallel_group()->ranks();
    const std::vector<Tensor> parameters = model.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      expect_close(parameters[i].grad(),
                   mean_gradient(parameters[i].detach(), i, ranks),
                   i == 5 ? 1e-6 : 1e-10);
    }
  });
}

TEST_P(AverageGradientsTest, FillsSeveralBuckets) {
  run_on_ranks(GetParam(), [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes(31, {1000, 240}), at::kFloat);
    set_gradients(model, rank);
    average_gradients(model);
    expect_mean(model, ps::get_data_parallel_group()->ranks(), 1e-6);
  });
}

TEST_P(AverageGradientsTest, LeavesReplicasWithTheSameBits) {
  std::vector<std::vector<Tensor>> grads(static_cast<size_t>(GetParam()));
  run_on_ranks(GetParam(), [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes{{1000}, {300, 1000}}, at::kFloat);
    set_gradients(model, rank);
    average_gradients(model);
    for (const Tensor& parameter : model.parameters()) {
      grads[static_cast<size_t>(rank)].push_back(parameter.grad());
    }
  });
  for (const std::vector<Tensor>& of_rank : grads) {
    EXPECT_TRUE(at::equal(of_rank[0], grads[0][0]));
    EXPECT_TRUE(at::equal(of_rank[1], grads[0][1]));
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, AverageGradientsTest,
                         ::testing::Values(1, 2, 3, 4));

TEST(AverageGradients, KeepsTensorParallelRanksApart) {
  run_on_ranks(4, [&](int rank) {
    ps::initialize_model_parallel(2);
    Bag model(Shapes{{6}, {2, 2}});
    set_gradients(model, rank);
    average_gradients(model);
    expect_mean(model, rank % 2 == 0 ? std::vector<int64_t>{0, 2}
                                     : std::vector<int64_t>{1, 3});
  });
}

TEST(AverageGradients, TakesAGroup) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(2);
    Bag model(Shapes{{6}});
    set_gradients(model, rank);
    average_gradients(model);  // a data-parallel group of one
    expect_mean(model, {rank});
    average_gradients(model, ps::get_tensor_model_parallel_group());
    expect_mean(model, {0, 1});
  });
}

TEST(AverageGradients, AveragesTiedParametersOnce) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes{{300, 1000}});
    model.register_parameter("tied", model.parameters()[0]);
    model.parameters()[0].mutable_grad() =
        at::full({300, 1000}, rank * 2.0, at::kDouble);
    average_gradients(model);
    expect_close(model.parameters()[0].grad(),
                 at::ones({300, 1000}, at::kDouble));
  });
}

TEST(AverageGradients, TakesGradientsOfAnyLayout) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes{{600, 500}, {3, 4}});
    for (const Tensor& parameter : model.parameters()) {
      parameter.mutable_grad() =
          at::full({parameter.size(1), parameter.size(0)}, 1.0 + rank,
                   at::kDouble)
              .t();
    }
    average_gradients(model);
    for (const Tensor& parameter : model.parameters()) {
      expect_close(parameter.grad(),
                   at::full(parameter.sizes(), 1.5, at::kDouble));
    }
  });
}

TEST(AverageGradients, PassesOverParametersThatNoRankUsed) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes{{2}, {3}});
    set_gradients(model, rank);
    model.parameters()[0].mutable_grad() = Tensor();
    average_gradients(model);
    EXPECT_FALSE(model.parameters()[0].grad().defined());
    expect_close(model.parameters()[1].grad(),
                 mean_gradient(model.parameters()[1].detach(), 1, {0, 1}));
  });
}

TEST(AverageGradients, WaitsForTheLastMicroBatch) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes{{4}});
    set_gradients(model, rank);
    {
      const NoSyncScope outer = no_sync();
      {
        const NoSyncScope inner = no_sync();
        average_gradients(model);
      }
      average_gradients(model);
    }
    expect_mean(model, {rank});
    average_gradients(model);
    expect_mean(model, {0, 1});
  });
}

/// The error that both ranks of two get for gradients that `change` made
/// unfit, and that they have changed nothing.
void expect_error(const std::function<void(Bag&, int)>& change,
                  const std::string& text) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(1);
    Bag model(Shapes{{4}, {2, 3}, {5}});
    set_gradients(model, rank);
    change(model, rank);
    const Tensor before = model.parameters()[2].grad().clone();
    expect_throw<InvalidArgument>([&] { average_gradients(model); }, text);
    EXPECT_TRUE(at::equal(model.parameters()[2].grad(), before));
  });
}

TEST(AverageGradients, NamesParametersThatOnlySomeRanksUsed) {
  expect_error(
      [](Bag& model, int rank) {
        model.parameters()[rank].mutable_grad() = Tensor();
      },
      "average_gradients: gradients on some ranks only: p0 (ranks 1), p1 "
      "(ranks 0); ");
}

TEST(AverageGradients, NamesSparseGradients) {
  expect_error(
      [](Bag& model, int rank) {
        if (rank == 1) {
          model.parameters()[1].mutable_grad() =
              at::ones({2, 3}, at::kDouble).to_sparse();
        }
      },
      "average_gradients: sparse gradients of p1; make them dense");
}

TEST(AverageGradients, SaysWhereModelsDiffer) {
  expect_error(
      [](Bag& model, int rank) {
        if (rank == 1) {
          model.add(at::zeros({1}));
        }
      },
      "the model has 3 parameters on rank 0 and 4 on rank 1");
}

}  // namespace
}  // namespace colonnade::parallel_layers
