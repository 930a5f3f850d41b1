// tests/trace/traced_models_test.cpp
// Traced models of many kinds, compared with their own forward.
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/expect.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

namespace colonnade::trace {
namespace {

namespace nn = torch::nn;
namespace pl = parallel_layers;
namespace ps = parallel_state;
using at::Tensor;
using colonnade::testing::expect_close;
using colonnade::testing::expect_equal;

/// The model's own output on rank 0, built anew on thread ranks.
template <typename Make>
Tensor eager(int degree, const Make& make, const std::vector<Tensor>& inputs) {
  Tensor output;
  run_ranks(degree, [&](int rank) {
    ps::initialize_model_parallel(degree);
    auto model = make();
    model->eval();
    const c10::InferenceMode inference;
    Tensor y;
    if constexpr (requires { model->forward(inputs[0], inputs[1]); }) {
      y = model->forward(inputs[0], inputs[1]);
    } else {
      y = model->forward(inputs[0]);
    }
    if (rank == 0) {
      output = y;
    }
  });
  return output;
}

class TracedModels
    : public ::testing::TestWithParam<std::tuple<int, at::ScalarType>> {
 protected:
  int degree() const { return std::get<0>(GetParam()); }
  at::ScalarType dtype() const { return std::get<1>(GetParam()); }

  /// Traces what `make` builds at `example`, and compares it with the model's
  /// own forward at `inputs`: bit for bit as recorded, within rounding as
  /// optimized.
  template <typename Make>
  void expect_traced(const Make& make, const Tensor& example,
                     const std::vector<Tensor>& inputs) const {
    for (const bool optimize : {false, true}) {
      TraceOptions options;
      options.optimize = optimize;
      TensorParallelModel model =
          parallel_model_trace(make, {example}, degree(), options);
      EXPECT_FALSE(model.graph().fixed.has_value()) << *model.graph().fixed;
      for (const Tensor& x : inputs) {
        const Tensor want = eager(degree(), make, {x});
        if (optimize) {
          expect_close(model(x), want, dtype() == at::kFloat ? 1e-5 : 3e-2);
        } else {
          expect_equal(model(x), want);
        }
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Ranks, TracedModels,
                         ::testing::Combine(::testing::Values(1, 2, 4),
                                            ::testing::Values(at::kFloat,
                                                              at::kBFloat16)),
                         [](const auto& instance) {
                           return std::to_string(std::get<0>(instance.param)) +
                                  c10::toString(std::get<1>(instance.param));
                         });

struct MlpImpl : nn::Module {
  explicit MlpImpl(at::ScalarType dtype)
      : up(pl::ColumnParallelLinearOptions(12, 20).gather_output(false).dtype(
            dtype)),
        down(pl::RowParallelLinearOptions(20, 12).input_is_parallel(true).dtype(
            dtype)) {
    register_module("up", up);
    register_module("down", down);
  }
  Tensor forward(const Tensor& x) { return down(torch::gelu(up(x))); }
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
};
TORCH_MODULE(Mlp);

TEST_P(TracedModels, Mlp) {
  const auto make = [this] {
    manual_seed(1);
    return Mlp(dtype());
  };
  expect_traced(make, torch::ones({2, 6, 12}, dtype()),
                {torch::randn({5, 7, 12}).to(dtype()),
                 torch::randn({1, 1, 12}).to(dtype())});
}

/// Written as users write: sizes asked for everywhere.
struct TransformerImpl : nn::Module {
  TransformerImpl(at::ScalarType dtype, int64_t hidden, int64_t head_count)
      : heads(head_count),
        embedding(pl::ParallelEmbeddingOptions(50, hidden).dtype(dtype)),
        norm(nn::LayerNormOptions({hidden})),
        qkv(pl::ColumnParallelLinearOptions(hidden, 3 * hidden)
                .segments({hidden, hidden, hidden})
                .gather_output(false)
                .dtype(dtype)),
        out(pl::RowParallelLinearOptions(hidden, hidden)
                .input_is_parallel(true)
                .dtype(dtype)),
        up(pl::ColumnParallelLinearOptions(hidden, 2 * hidden)
               .gather_output(false)
               .dtype(dtype)),
        down(pl::RowParallelLinearOptions(2 * hidden, hidden)
                 .input_is_parallel(true)
                 .dtype(dtype)) {
    register_module("embedding", embedding);
    register_module("norm", norm);
    register_module("qkv", qkv);
    register_module("out", out);
    register_module("up", up);
    register_module("down", down);
    norm->to(dtype);
  }

  Tensor forward(const Tensor& ids) {
    Tensor x = embedding(ids);
    const int64_t batch = x.size(0);
    const int64_t seq = x.size(1);
    const Tensor positions = torch::arange(seq).to(x.scalar_type()) / seq;
    x = x + positions.view({1, seq, 1}).expand({batch, seq, x.size(2)});
    const int64_t local = heads / ps::get_tensor_model_parallel_size();
    const auto parts = qkv(norm(x)).chunk(3, -1);
    const auto split = [&](const Tensor& part) {
      return part.reshape({batch, seq, local, part.size(2) / local})
          .permute({0, 2, 1, 3});
    };
    const Tensor q = split(parts[0]);
    const Tensor k = split(parts[1]);
    const Tensor v = split(parts[2]);
    const Tensor mask = torch::ones({seq, seq}, torch::kBool).tril();
    const Tensor scores = torch::matmul(q, k.transpose(-2, -1)) /
                          std::sqrt(static_cast<double>(q.size(3)));
    const Tensor attention =
        scores.masked_fill(mask.logical_not(), -1e9).softmax(-1);
    Tensor y = torch::matmul(attention, v).permute({0, 2, 1, 3});
    y = y.reshape({y.size(0), y.size(1), -1});
    x = x + out(y);
    const auto [mean, index] = down(torch::silu(up(norm(x)))).max(1);
    return x +
           mean.unsqueeze(1) *
               torch::einsum("bsh,bh->bs", {x, mean}).unsqueeze(2).sigmoid();
  }

  int64_t heads;
  pl::ParallelEmbedding embedding;
  nn::LayerNorm norm;
  pl::ColumnParallelLinear qkv;
  pl::RowParallelLinear out;
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
};
TORCH_MODULE(Transformer);

TEST_P(TracedModels, TransformerWithSizesEverywhere) {
  const auto make = [this] {
    manual_seed(2);
    return Transformer(dtype(), 16, 4);
  };
  expect_traced(make, torch::arange(12).remainder(50).view({2, 6}),
                {torch::randint(0, 50, {3, 11})});
}

struct BasicBlockImpl : nn::Module {
  explicit BasicBlockImpl(int64_t channels)
      : conv1(nn::Conv2dOptions(channels, channels, 3).padding(1).bias(false)),
        norm1(channels),
        conv2(nn::Conv2dOptions(channels, channels, 3).padding(1).bias(false)),
        norm2(channels) {
    register_module("conv1", conv1);
    register_module("norm1", norm1);
    register_module("conv2", conv2);
    register_module("norm2", norm2);
  }
  Tensor forward(const Tensor& x) {
    Tensor y = norm1(conv1(x)).relu_();
    y = norm2(conv2(y));
    y += x;
    return y.relu_();
  }
  nn::Conv2d conv1;
  nn::BatchNorm2d norm1;
  nn::Conv2d conv2;
  nn::BatchNorm2d norm2;
};
TORCH_MODULE(BasicBlock);

struct ResNetImpl : nn::Module {
  explicit ResNetImpl(at::ScalarType dtype)
      : stem(nn::Conv2dOptions(3, 8, 5).stride(2).padding(2)),
        pool(nn::MaxPool2dOptions(3).stride(2).padding(1)),
        block1(8),
        block2(8),
        head(pl::ColumnParallelLinearOptions(8, 12).dtype(dtype)) {
    register_module("stem", stem);
    register_module("pool", pool);
    register_module("block1", block1);
    register_module("block2", block2);
    register_module("head", head);
    to(dtype);
  }
  Tensor forward(const Tensor& x) {
    Tensor y = block2(block1(pool(stem(x).relu_())));
    y = torch::adaptive_avg_pool2d(y, {1, 1});
    return head(y.view({y.size(0), -1}));
  }
  nn::Conv2d stem;
  nn::MaxPool2d pool;
  BasicBlock block1;
  BasicBlock block2;
  pl::ColumnParallelLinear head;
};
TORCH_MODULE(ResNet);

TEST_P(TracedModels, ResNet) {
  const auto make = [this] {
    manual_seed(3);
    return ResNet(dtype());
  };
  expect_traced(make, torch::randn({2, 3, 24, 20}).to(dtype()),
                {torch::randn({3, 3, 33, 28}).to(dtype())});
}

struct RecurrentImpl : nn::Module {
  explicit RecurrentImpl(at::ScalarType dtype)
      : embedding(pl::ParallelEmbeddingOptions(30, 10).dtype(dtype)),
        gru(nn::GRUOptions(10, 8).num_layers(2).batch_first(true)),
        lstm(nn::LSTMOptions(8, 8).batch_first(true)),
        head(pl::ColumnParallelLinearOptions(8, 12).dtype(dtype)) {
    register_module("embedding", embedding);
    register_module("gru", gru);
    register_module("lstm", lstm);
    register_module("head", head);
    to(dtype);
  }
  Tensor forward(const Tensor& ids) {
    const auto [states, last] = gru(embedding(ids));
    const auto [outputs, hidden] = lstm(states);
    return head(outputs.select(1, -1) + last[0]);
  }
  pl::ParallelEmbedding embedding;
  nn::GRU gru;
  nn::LSTM lstm;
  pl::ColumnParallelLinear head;
};
TORCH_MODULE(Recurrent);

TEST_P(TracedModels, GruAndLstm) {
  const auto make = [this] {
    manual_seed(4);
    return Recurrent(dtype());
  };
  expect_traced(make, torch::arange(15).remainder(30).view({3, 5}),
                {torch::randint(0, 30, {4, 9})});
}

}  // namespace
}  // namespace colonnade::trace
