// tests/api/own_group_test.cpp
// Layers that are split over another group than "tp".
#include "tests/api/mlp.h"
#include "tests/testing/error_of.h"
#include "tests/testing/expect.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ops/linspace.h>
#include <ATen/ops/zeros_like.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;
using ::testing::AllOf;
using testing::expect_close;
using testing::expect_equal;
using ::testing::HasSubstr;

/// Of four ranks, {0, 1} and {2, 3} are a pair each.
GroupPtr make_pair_group(int rank) {
  const int64_t first = rank / 2 * 2;
  return ps::new_group("pair", {first, first + 1});
}

struct ModelImpl : torch::nn::Module {
  explicit ModelImpl(const GroupPtr& group)
      : table(
            pl::ParallelEmbeddingOptions(7, 6).dtype(at::kDouble).group(group)),
        up(pl::ColumnParallelLinearOptions(6, 8)
               .gather_output(false)
               .dtype(at::kDouble)
               .group(group)),
        down(pl::RowParallelLinearOptions(8, 6)
                 .input_is_parallel(true)
                 .dtype(at::kDouble)
                 .group(group)) {
    register_module("table", table);
    register_module("up", up);
    register_module("down", down);
  }
  at::Tensor forward(const at::Tensor& ids) {
    return down(up(table(ids)).tanh());
  }
  pl::ParallelEmbedding table;
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
};
TORCH_MODULE(Model);

struct Dense {
  torch::nn::Embedding table{7, 6};
  torch::nn::Linear up{6, 8};
  torch::nn::Linear down{8, 6};

  Dense() {
    table->to(at::kDouble);
    up->to(at::kDouble);
    down->to(at::kDouble);
  }
  at::Tensor forward(const at::Tensor& ids) {
    return down(up(table(ids)).tanh());
  }
};

class OwnGroupTest : public ::testing::TestWithParam<int> {};

TEST_P(OwnGroupTest, ComputesClipsAndSavesAsOverTheTensorParallelGroup) {
  const TemporaryFolder folder;
  run_ranks(4, [&](int rank) {
    ps::initialize_model_parallel(GetParam());
    const GroupPtr pair = make_pair_group(rank);
    manual_seed(1);
    Model model(pair);
    Dense dense;
    {
      const at::NoGradGuard no_grad;
      dense.table->weight.copy_(pl::gather_parameter(model->table->weight));
      dense.up->weight.copy_(pl::gather_parameter(model->up->weight));
      dense.up->bias.copy_(pl::gather_parameter(model->up->bias));
      dense.down->weight.copy_(pl::gather_parameter(model->down->weight));
      dense.down->bias.copy_(model->down->bias);
    }
    EXPECT_EQ(model->up->weight.size(0), 4);

    const at::Tensor ids = at::linspace(0, 6, 7).to(at::kLong).view({1, 7});
    const at::Tensor y = model(ids);
    const at::Tensor want = dense.forward(ids);
    expect_close(y, want);
    y.square().sum().backward();
    want.square().sum().backward();
    const auto expect_gradient = [](const at::Tensor& got,
                                    const at::Tensor& whole) {
      at::Tensor expected = at::zeros_like(got);
      pl::copy_tensor_parallel_attributes(expected, got);
      pl::split_parameter(expected, whole.grad());
      expect_close(got.grad(), expected);
    };
    expect_gradient(model->table->weight, dense.table->weight);
    expect_gradient(model->up->weight, dense.up->weight);
    expect_gradient(model->up->bias, dense.up->bias);
    expect_gradient(model->down->weight, dense.down->weight);
    expect_gradient(model->down->bias, dense.down->bias);

    double sum = 0;
    for (const at::Tensor& whole :
         {dense.table->weight, dense.up->weight, dense.up->bias,
          dense.down->weight, dense.down->bias}) {
      sum += whole.grad().square().sum().item<double>();
    }
    EXPECT_NEAR(pl::clip_grad_norm(model->parameters(), 1.0).item<double>(),
                std::sqrt(sum), 1e-10);

    StateDict state;
    state["model"] = state_dict(*model);
    pl::save(state, folder.path());
    manual_seed(2);
    Model again(pair);
    pl::load(folder.path(), *again);
    for (const auto& item : model->named_parameters()) {
      expect_equal(again->named_parameters()[item.key()], item.value(),
                   item.key());
    }
  });
}

INSTANTIATE_TEST_SUITE_P(TensorParallelSizes, OwnGroupTest,
                         ::testing::Values(2, 4));

TEST(OwnGroup, SaveSaysThatItNeedsTheTensorParallelGroup) {
  const TemporaryFolder folder;
  run_ranks(4, [&](int rank) {
    ps::initialize_model_parallel(1);
    Model model(make_pair_group(rank));
    StateDict state;
    state["model"] = state_dict(*model);
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { pl::save(state, folder.path()); }),
        AllOf(HasSubstr("model.up.weight: no rank of the tensor-parallel group "
                        "holds ["),
              HasSubstr("model.table.weight: ")));
  });
}

TEST(OwnGroup, SaveShowsGroupsThatDiffer) {
  const TemporaryFolder folder;
  run_ranks(4, [&](int rank) {
    ps::initialize_model_parallel(4);
    const int64_t first = rank / 2 * 2;
    Model model(ps::new_group(rank < 2 ? "left" : "right", {first, first + 1}));
    StateDict state;
    state["model"] = state_dict(*model);
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { pl::save(state, folder.path()); }),
        AllOf(HasSubstr("over \"left\" on rank 0"),
              HasSubstr("over \"right\" on rank 2")));
  });
}

TEST(OwnGroup, OneOfAnotherRankIsRefused) {
  GroupPtr of_first;
  run_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(2);
    const GroupPtr mine = ps::new_group("mine", {0, 1});
    if (rank == 0) {
      of_first = mine;
    }
    ps::get_world_group()->barrier();
    if (rank == 1) {
      EXPECT_THAT(error_of<InvalidArgument>([&] {
                    pl::ColumnParallelLinear(
                        pl::ColumnParallelLinearOptions(4, 4).group(of_first));
                  }),
                  AllOf(HasSubstr("ColumnParallelLinear: the group \"mine\" is "
                                  "not one of this rank's"),
                        HasSubstr("new_group")));
    }
    ps::get_world_group()->barrier();
  });
}

}  // namespace
}  // namespace colonnade
