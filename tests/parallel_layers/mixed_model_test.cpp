// tests/parallel_layers/mixed_model_test.cpp
// Models that mix the parallel layers with torch::nn, beside plain torch.
#include "colonnade/parallel_layers/average_gradients.h"
#include "colonnade/parallel_layers/clip_grad_norm.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/cross_entropy.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_layers/sharding.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "tests/testing/expect.h"
#include "tests/testing/run_on_ranks.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/utils.h>

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <type_traits>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace ps = parallel_state;
using at::Tensor;
using testing::expect_close;

constexpr int64_t kVocabulary = 13;
constexpr int64_t kHidden = 8;

/// The layers of the model below that differ.
struct Plain {
  using Embedding = torch::nn::Embedding;
  using Up = torch::nn::Linear;
  using Down = torch::nn::Linear;
  static Up up() { return Up(kHidden, 4 * kHidden); }
  static Down down() { return Down(4 * kHidden, kHidden); }
};

struct Parallel {
  using Embedding = ParallelEmbedding;
  using Up = ColumnParallelLinear;
  using Down = RowParallelLinear;
  static Up up() {
    return Up(
        ColumnParallelLinearOptions(kHidden, 4 * kHidden).gather_output(false));
  }
  static Down down() {
    return Down(
        RowParallelLinearOptions(4 * kHidden, kHidden).input_is_parallel(true));
  }
};

/// An embedding, an MLP between torch's own layers, dropout on, and a head.
template <typename Layers>
struct Mixed : torch::nn::Module {
  explicit Mixed(uint64_t seed) {
    if constexpr (std::is_same_v<Layers, Plain>) {
      torch::manual_seed(seed);
    } else {
      manual_seed(seed);
    }
    embedding = register_module(
        "embedding", typename Layers::Embedding(kVocabulary, kHidden));
    mixer = register_module("mixer", torch::nn::Linear(kHidden, kHidden));
    norm = register_module(
        "norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({kHidden})));
    up = register_module("up", Layers::up());
    down = register_module("down", Layers::down());
    dropout = register_module("dropout", torch::nn::Dropout(0.4));
    head = register_module("head", torch::nn::Linear(kHidden, 5));
    to(at::kDouble);
  }

  Tensor forward(const Tensor& ids) {
    Tensor x = dropout(mixer(embedding(ids)));
    x = x + dropout(down(at::gelu(up(norm(x)))));
    return head(dropout(x));
  }

  typename Layers::Embedding embedding{nullptr};
  torch::nn::Linear mixer{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  typename Layers::Up up{nullptr};
  typename Layers::Down down{nullptr};
  torch::nn::Dropout dropout{nullptr};
  torch::nn::Linear head{nullptr};
};

Tensor make_ids(uint64_t seed, at::IntArrayRef shape) {
  return at::randint(kVocabulary, shape,
                     at::detail::createCPUGenerator(seed + 1000), at::kLong);
}

using Tensors = std::map<std::string, Tensor>;

/// An output and every gradient by name.
template <typename Layers>
Tensors run(Mixed<Layers>& model, const Tensor& ids) {
  Tensors result;
  const Tensor y = model.forward(ids);
  y.square().mean().backward();
  result["output"] = y.detach();
  for (const auto& parameter : model.named_parameters()) {
    result[parameter.key()] = parameter.value().grad();
  }
  return result;
}

/// Expects what this rank has to be its part of `want`.
void expect_part(const torch::nn::Module& model, const Tensors& got,
                 const Tensors& want) {
  expect_close(got.at("output"), want.at("output"));
  for (const auto& parameter : model.named_parameters()) {
    Tensor whole = want.at(parameter.key());
    if (const auto attributes =
            get_tensor_parallel_attributes(parameter.value())) {
      whole = split(whole, attributes->spec);
    }
    expect_close(got.at(parameter.key()), whole, 1e-10, parameter.key());
  }
}

class MixedModelTest : public ::testing::TestWithParam<int> {};

TEST_P(MixedModelTest, StartsFromTheWeightsOfPlainTorch) {
  Mixed<Plain> plain(3);
  const auto want = plain.named_parameters();
  run_on_ranks(GetParam(), [&] {
    ps::initialize_model_parallel(GetParam());
    Mixed<Parallel> model(3);
    for (const auto& parameter : model.named_parameters()) {
      EXPECT_TRUE(
          at::equal(gather_parameter(parameter.value()), want[parameter.key()]))
          << parameter.key();
    }
  });
}

TEST_P(MixedModelTest, EqualsPlainTorchWithDropoutIn200Runs) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    const Tensor ids = make_ids(seed, {2, 3});
    Mixed<Plain> plain(seed);
    const Tensors want = run(plain, ids);
    std::vector<Tensors> ranks(static_cast<size_t>(GetParam()));
    run_on_ranks(GetParam(), [&](int rank) {
      ps::initialize_model_parallel(GetParam());
      Mixed<Parallel> model(seed);
      Tensors& got = ranks[static_cast<size_t>(rank)];
      got = run(model, ids);
      expect_part(model, got, want);
    });
    for (const Tensors& rank : ranks) {
      for (const char* replica : {"output", "mixer.weight", "norm.bias",
                                  "down.bias", "head.weight"}) {
        EXPECT_TRUE(at::equal(rank.at(replica), ranks[0].at(replica)))
            << replica;
      }
    }
    if (HasFailure()) {
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, MixedModelTest, ::testing::Values(1, 2, 4));

/// The up projection once more as a head, its output split over the ranks.
Tensor head_loss(Mixed<Parallel>& model, const Tensor& ids) {
  const Tensor y = model.forward(ids);
  const Tensor logits = model.up(at::cat({y, y.narrow(-1, 0, 3)}, -1));
  return parallel_cross_entropy(logits, ids).mean();
}

/// The whole weights after some steps of training on `batch` sequences, shared
/// out over the data-parallel ranks.
Tensors train(int world_size, int tp_size, int64_t batch) {
  Tensors weights;
  run_on_ranks(world_size, [&](int rank) {
    ps::initialize_model_parallel(tp_size);
    Mixed<Parallel> model(5);
    model.eval();  // data-parallel ranks would drop out alike
    const int64_t own = batch / ps::get_data_parallel_size();
    for (uint64_t step = 0; step < 4; ++step) {
      const Tensor ids =
          make_ids(step, {batch, 6})
              .narrow(0, ps::get_data_parallel_rank() * own, own);
      head_loss(model, ids).backward();
      average_gradients(model);
      clip_grad_norm(model.parameters(), 0.1);
      const at::NoGradGuard no_grad;
      for (Tensor& parameter : model.parameters()) {
        parameter.sub_(parameter.grad(), 0.5);
        parameter.mutable_grad() = Tensor();
      }
    }
    for (const auto& parameter : model.named_parameters()) {
      const Tensor whole = gather_parameter(parameter.value());
      if (speaks_for_process(rank)) {
        weights[parameter.key()] = whole;
      }
    }
  });
  return weights;
}

TEST(MixedModel, DataParallelRanksTrainLikeOneWithTheWholeBatch) {
  const Tensors want = train(/*world_size=*/2, /*tp_size=*/2, /*batch=*/4);
  const Tensors got = train(/*world_size=*/4, /*tp_size=*/2, /*batch=*/4);
  for (const auto& [name, weight] : want) {
    expect_close(got.at(name), weight, 1e-10, name);
  }
}

}  // namespace
}  // namespace colonnade::parallel_layers
