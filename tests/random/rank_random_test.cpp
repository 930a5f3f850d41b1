// tests/random/rank_random_test.cpp
#include "colonnade/random/rank_random.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/launch/launch.h"
#include "colonnade/random/generators.h"

#include <ATen/ATen.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/utils.h>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using Tensors = std::vector<at::Tensor>;

/// Everything that a small model with dropout draws and computes: weights,
/// output, gradients.
Tensors run_model() {
  struct Net : torch::nn::Module {
    torch::nn::Embedding embedding{50, 24};
    torch::nn::Linear up{24, 28}, down{28, 5};
    torch::nn::Dropout dropout{0.3};
    Net() {
      register_module("embedding", embedding);
      register_module("up", up);
      register_module("down", down);
      register_module("dropout", dropout);
    }
  } net;
  const at::Tensor ids = at::arange(20).view({4, 5});
  const at::Tensor hidden = at::relu(net.up(net.embedding(ids)));
  const at::Tensor y = net.down(net.dropout(hidden));
  y.sum().backward();
  Tensors all{y.detach()};
  for (const at::Tensor& parameter : net.parameters()) {
    all.push_back(parameter.detach());
    all.push_back(parameter.grad());
  }
  return all;
}

void expect_equal(const Tensors& got, const Tensors& want,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(at::equal(got[i], want[i])) << what << ", tensor " << i;
  }
}

at::Tensor default_state() {
  return at::globalContext().defaultGenerator(at::kCPU).get_state();
}

TEST(RankRandomScope, ModulesAndDropoutAreThoseOfOneThread) {
  torch::manual_seed(7);
  const Tensors want = run_model();
  for (int repetition = 0; repetition < 200; ++repetition) {
    run_ranks(2 + repetition % 3, [&](int rank) {
      manual_seed(7);
      expect_equal(run_model(), want,
                   "repetition " + std::to_string(repetition) + ", rank " +
                       std::to_string(rank));
    });
  }
}

struct Draw {
  std::string name;
  std::function<at::Tensor()> draw;
};

/// One call of each family of random ops: factories, in-place, out-of-place,
/// `out=`, and composites that draw inside.
std::vector<Draw> draws() {
  const auto x = [] { return at::linspace(0.1, 0.9, 60).view({3, 20}); };
  return {
      {"rand", [] { return at::rand({33}); }},
      {"rand double", [] { return at::rand({33}, at::kDouble); }},
      {"randn", [] { return at::randn({33}); }},
      {"randint", [] { return at::randint(100, {33}); }},
      {"randint low", [] { return at::randint(5, 100, {33}); }},
      {"randperm", [] { return at::randperm(100); }},
      {"rand_like", [=] { return at::rand_like(x()); }},
      {"randn_like", [=] { return at::randn_like(x()); }},
      {"randint_like", [=] { return at::randint_like(x(), 9); }},
      {"normal mean", [=] { return at::normal(x()); }},
      {"normal both", [=] { return at::normal(x(), x()); }},
      {"normal size", [] { return at::normal(1.0, 2.0, {33}); }},
      {"normal_", [=] { return x().normal_(); }},
      {"uniform_", [=] { return x().uniform_(); }},
      {"random_", [=] { return x().random_(); }},
      {"random_ to", [=] { return x().random_(10); }},
      {"random_ from", [=] { return x().random_(3, 10); }},
      {"bernoulli", [=] { return at::bernoulli(x()); }},
      {"bernoulli p", [=] { return at::bernoulli(x(), 0.4); }},
      {"bernoulli_", [=] { return x().bernoulli_(0.4); }},
      {"bernoulli_ tensor",
       [=] {
         return at::empty({3, 20}).bernoulli_(x());
       }},
      {"exponential_", [=] { return x().exponential_(); }},
      {"geometric_", [=] { return x().geometric_(0.3); }},
      {"cauchy_", [=] { return x().cauchy_(); }},
      {"log_normal_", [=] { return x().log_normal_(); }},
      {"multinomial", [=] { return at::multinomial(x(), 5); }},
      {"poisson", [=] { return at::poisson(x()); }},
      {"binomial", [=] { return at::binomial(x().mul(20).floor(), x()); }},
      {"rrelu", [=] { return at::rrelu(x().neg(), 0.1, 0.9, true); }},
      {"dropout", [=] { return at::dropout(x(), 0.5, true); }},
      {"dropout_",
       [=] {
         auto y = x();
         return at::dropout_(y, 0.5, true);
       }},
      {"alpha_dropout", [=] { return at::alpha_dropout(x(), 0.5, true); }},
      {"feature_dropout", [=] { return at::feature_dropout(x(), 0.5, true); }},
      {"native_dropout",
       [=] { return std::get<0>(at::native_dropout(x(), 0.5, true)); }},
      {"rand out",
       [] {
         auto y = at::empty({33});
         return at::rand_out(y, {33});
       }},
      {"attention dropout",
       [=] {
         const at::Tensor q = x().view({1, 3, 5, 4});
         return at::scaled_dot_product_attention(q, q, q, {}, 0.5);
       }},
      {"orthogonal_",
       [] {
         return torch::nn::init::orthogonal_(at::empty({8, 8}));
       }},
      {"lstm",
       [=] {
         torch::nn::LSTM lstm(
             torch::nn::LSTMOptions(4, 5).num_layers(2).dropout(0.5));
         return std::get<0>(lstm(x().view({5, 3, 4}))).detach();
       }},
  };
}

TEST(RankRandomScope, EveryRandomOpDrawsFromTheRank) {
  for (const Draw& draw : draws()) {
    torch::manual_seed(11);
    const at::Tensor want = draw.draw();
    const at::Tensor after = default_state();
    run_ranks(1, [&] {
      manual_seed(11);
      EXPECT_TRUE(at::equal(draw.draw(), want)) << draw.name;
      EXPECT_TRUE(at::equal(random_state().replicated, after)) << draw.name;
      {
        TensorParallelRandomScope scope;
        draw.draw();
      }
      EXPECT_TRUE(at::equal(random_state().replicated, after)) << draw.name;
      // Another LSTM kernel runs in inference mode: its last bits differ.
      at::InferenceMode inference;
      manual_seed(11);
      EXPECT_TRUE(at::allclose(draw.draw(), want)) << draw.name;
    });
    EXPECT_TRUE(at::equal(default_state(), after)) << draw.name;
  }
}

TEST(RankRandomScope, AGivenGeneratorIsKept) {
  const auto draw = [] {
    at::Generator own = at::globalContext().defaultGenerator(at::kCPU).clone();
    own.set_current_seed(3);
    return at::cat({at::rand({4}, own), at::empty({4}).normal_(0, 1, own),
                    at::multinomial(at::ones({9}), 4, false, own)});
  };
  const at::Tensor want = draw();
  run_ranks(2, [&] {
    const at::Tensor before = random_state().replicated;
    EXPECT_TRUE(at::equal(draw(), want));
    EXPECT_TRUE(at::equal(random_state().replicated, before));
  });
}

TEST(RankRandomScope, BackwardOfDropoutUsesTheMaskOfForward) {
  run_ranks(2, [] {
    const at::Tensor x = at::ones({200}).requires_grad_();
    const at::Tensor y = at::dropout(x, 0.5, /*train=*/true);
    y.sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), y));
    EXPECT_GT(y.eq(0).sum().item<int64_t>(), 0);
    EXPECT_GT(y.ne(0).sum().item<int64_t>(), 0);
  });
}

TEST(RankRandomScope, OnMetaNothingIsDrawn) {
  run_ranks(1, [] {
    const at::Tensor before = random_state().replicated;
    EXPECT_TRUE(at::empty({3}, at::kMeta).normal_().is_meta());
    EXPECT_TRUE(at::randn({3}, at::kMeta).is_meta());
    EXPECT_TRUE(at::dropout(at::empty({3}, at::kMeta), 0.5, true).is_meta());
    EXPECT_TRUE(at::equal(random_state().replicated, before));
  });
}

TEST(RankRandomScope, NestsAndEnds) {
  const RankContextScope context(std::make_shared<RankContext>(nullptr));
  torch::manual_seed(5);
  const at::Tensor want = at::rand({4});
  {
    const RankRandomScope outer;
    {
      const RankRandomScope inner;
      manual_seed(5);
      EXPECT_TRUE(at::equal(at::rand({4}), want));
    }
    manual_seed(5);
    EXPECT_TRUE(at::equal(at::rand({4}), want));
  }
  torch::manual_seed(5);
  EXPECT_TRUE(at::equal(at::rand({4}), want));
}

}  // namespace
}  // namespace colonnade
