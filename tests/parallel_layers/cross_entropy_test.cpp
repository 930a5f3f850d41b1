// tests/parallel_layers/cross_entropy_test.cpp
#include "colonnade/parallel_layers/cross_entropy.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/shard_spec.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/functional/loss.h>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace ps = parallel_state;
using at::Tensor;
using testing::expect_close;
using testing::expect_throw;
using testing::part;
using testing::run_tensor_parallel;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kIgnore = -100;

/// A loss of some tokens over a whole vocabulary.
struct Problem {
  Tensor logits;  // [tokens..., vocabulary]
  Tensor target;  // [tokens...]
  double label_smoothing = 0;
  int64_t ignore_index = kIgnore;

  int64_t vocab_size() const { return logits.size(-1); }
};

struct Result {
  Tensor loss;
  Tensor grad;  // of whole logits, for weights 1, 2, 3 … of the tokens
};

Problem make_problem(int64_t vocabulary, at::ScalarType dtype = at::kDouble,
                     at::IntArrayRef tokens = {3, 5}) {
  at::Generator generator = at::detail::createCPUGenerator(vocabulary);
  std::vector<int64_t> shape = tokens.vec();
  shape.push_back(vocabulary);
  Problem problem;
  problem.logits = at::randn(shape, generator, at::kDouble).mul_(3).to(dtype);
  problem.target = at::randint(vocabulary, tokens, generator, at::kLong);
  return problem;
}

Tensor token_weights(const Tensor& loss) {
  return at::arange(1, loss.numel() + 1, loss.options()).view(loss.sizes());
}

Result dense(const Problem& p) {
  const Tensor logits = p.logits.detach().clone().set_requires_grad(true);
  const Tensor loss =
      at::cross_entropy_loss(logits.reshape({-1, p.vocab_size()}),
                             p.target.reshape({-1}), {}, at::Reduction::None,
                             p.ignore_index, p.label_smoothing)
          .view(p.target.sizes());
  loss.backward(token_weights(loss));
  return {loss.detach(), logits.grad()};
}

/// This rank's columns; what pads them is far above every logit, so that a
/// loss that counts padding shows.
Tensor own_columns(const Tensor& whole, const ShardSpec& spec) {
  Tensor own = split(whole, spec);
  own.narrow(-1, spec.held_size(), spec.padding()).fill_(1e4);
  return own;
}

ShardSpec own_spec(const Tensor& whole) {
  return ShardSpec::padded(whole.dim() - 1, whole.size(-1),
                           ps::get_tensor_model_parallel_rank(),
                           ps::get_tensor_model_parallel_size());
}

/// The whole of what ranks hold of the last dim.
Tensor gather_columns(const Tensor& own, const Tensor& whole) {
  const int64_t size = ps::get_tensor_model_parallel_size();
  std::vector<int64_t> shape = own.sizes().vec();
  shape.insert(shape.begin(), size);
  Tensor all = at::empty(shape, own.options());
  ps::get_tensor_model_parallel_group()->all_gather(all, own.contiguous());
  std::vector<ShardSpec> specs;
  for (int64_t rank = 0; rank < size; ++rank) {
    specs.push_back(
        ShardSpec::padded(whole.dim() - 1, whole.size(-1), rank, size));
  }
  return join(all.unbind(0), specs);
}

Result sharded(const Problem& p) {
  const ShardSpec spec = own_spec(p.logits);
  const Tensor logits = own_columns(p.logits, spec).set_requires_grad(true);
  const Tensor loss = parallel_cross_entropy(
      logits, p.target, p.label_smoothing, p.ignore_index, p.vocab_size());
  loss.backward(token_weights(loss));
  const Tensor padding =
      logits.grad().narrow(-1, spec.held_size(), spec.padding());
  EXPECT_TRUE(at::equal(padding, at::zeros_like(padding)));
  return {loss.detach(), gather_columns(logits.grad(), p.logits)};
}

/// `x` with a number that nothing here gives in place of NaN.
Tensor comparable(const Tensor& x) {
  return x.masked_fill(x.isnan(), 12345.678);
}

class ParallelCrossEntropyTest : public ::testing::TestWithParam<int> {
 protected:
  void expect_dense(const Problem& problem, double tolerance = 1e-10) {
    const Result want = dense(problem);
    run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
      const Result got = sharded(problem);
      expect_close(comparable(got.loss), comparable(want.loss), tolerance);
      expect_close(comparable(got.grad), comparable(want.grad), tolerance);
    });
  }
};

TEST_P(ParallelCrossEntropyTest, MatchesDense) {
  // 4 ranks hold 2, 2, 1 and 0 of 5; 7000 is more than a block of the kernel.
  for (const int64_t vocabulary : {1, 2, 5, 12, 37, 7001}) {
    SCOPED_TRACE(vocabulary);
    expect_dense(make_problem(vocabulary));
  }
}

TEST_P(ParallelCrossEntropyTest, SmoothsOverTheWholeVocabulary) {
  for (const int64_t vocabulary : {5, 37, 7001}) {
    for (const double smoothing : {0.1, 0.7, 1.0}) {
      SCOPED_TRACE(::testing::Message() << vocabulary << " " << smoothing);
      Problem problem = make_problem(vocabulary);
      problem.label_smoothing = smoothing;
      expect_dense(problem);
    }
  }
}

TEST_P(ParallelCrossEntropyTest, IgnoresTargets) {
  for (const int64_t ignore : {kIgnore, int64_t{3}, int64_t{1000}}) {
    for (const double smoothing : {0.0, 0.3}) {
      SCOPED_TRACE(::testing::Message() << ignore << " " << smoothing);
      Problem problem = make_problem(11);
      problem.ignore_index = ignore;
      problem.label_smoothing = smoothing;
      problem.target.view({-1}).slice(0, 0, 15, 4).fill_(ignore);
      expect_dense(problem);
    }
  }
}

TEST_P(ParallelCrossEntropyTest, GivesIgnoredTokensNothingWhateverTheyHold) {
  Problem problem = make_problem(11);
  problem.target[0][1] = kIgnore;
  problem.logits[0][1].fill_(std::nan(""));
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const Result got = sharded(problem);
    EXPECT_EQ(got.loss[0][1].item<double>(), 0);
    EXPECT_TRUE(at::equal(got.grad[0][1], at::zeros_like(got.grad[0][1])));
  });
}

TEST_P(ParallelCrossEntropyTest, StaysExactForLargeLogits) {
  Problem problem = make_problem(37, at::kFloat);
  problem.label_smoothing = 0.1;
  problem.logits[0].add_(1e4);
  problem.logits[1].sub_(1e4);
  problem.logits[2].mul_(1e4);
  Problem exact = problem;
  exact.logits = problem.logits.to(at::kDouble);
  const Result want = dense(exact);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const Result got = sharded(problem);
    expect_close(got.loss, want.loss.to(at::kFloat), 2e-6);
    expect_close(got.grad, want.grad.to(at::kFloat), 2e-6);
  });
}

TEST_P(ParallelCrossEntropyTest, TakesInfiniteLogitsAsTorchDoes) {
  Problem problem = make_problem(9, at::kDouble, {7});
  Tensor& logits = problem.logits;
  problem.target.fill_(4);
  logits[0].fill_(-kInfinity);
  logits[1].fill_(-kInfinity)[4] = 2.0;
  logits[2].slice(0, 0, 4).fill_(-kInfinity);
  logits[3].slice(0, 5, 9).fill_(-kInfinity);
  logits[4][4] = -kInfinity;
  logits[5][1] = kInfinity;
  logits[6][2] = std::nan("");
  for (const double smoothing : {0.0, 0.2}) {
    SCOPED_TRACE(smoothing);
    problem.label_smoothing = smoothing;
    expect_dense(problem);
  }
}

TEST_P(ParallelCrossEntropyTest, SumsHalfTypesInFp32) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    Problem problem = make_problem(5001, dtype);
    problem.label_smoothing = 0.1;
    Problem exact = problem;
    exact.logits = problem.logits.to(at::kFloat);
    const Result want = dense(exact);
    run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
      const Result got = sharded(problem);
      expect_close(got.loss, want.loss, 1e-5);
      EXPECT_EQ(got.grad.scalar_type(), dtype);
      // One rounding to the dtype of an fp32 gradient.
      EXPECT_TRUE(at::allclose(got.grad.to(at::kFloat), want.grad,
                               dtype == at::kHalf ? 1e-3 : 8e-3, 1e-6));
    });
  }
}

TEST_P(ParallelCrossEntropyTest, IsEqualOnEveryRank) {
  const Problem problem = make_problem(1003, at::kFloat);
  std::vector<Tensor> losses(static_cast<size_t>(GetParam()));
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const int rank = group->rank();
    losses[static_cast<size_t>(rank)] = sharded(problem).loss;
  });
  for (const Tensor& loss : losses) {
    EXPECT_TRUE(at::equal(loss, losses[0]));
  }
}

TEST_P(ParallelCrossEntropyTest, TakesAnyShapeAndLayout) {
  const int64_t vocabulary = 10;
  for (const std::vector<int64_t>& tokens :
       {std::vector<int64_t>{}, {1}, {0}, {2, 0}, {2, 1, 3}}) {
    SCOPED_TRACE(c10::IntArrayRef(tokens));
    expect_dense(make_problem(vocabulary, at::kDouble, tokens));
  }
  Problem problem = make_problem(vocabulary, at::kDouble, {6, 4});
  const Result want = dense(problem);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const ShardSpec spec = own_spec(problem.logits);
    const Tensor logits = own_columns(problem.logits, spec)
                              .transpose(0, 1)
                              .contiguous()
                              .set_requires_grad(true);
    const Tensor loss = parallel_cross_entropy(logits.transpose(0, 1),
                                               problem.target.to(at::kInt), 0,
                                               kIgnore, vocabulary);
    expect_close(loss.detach(), want.loss);
    // An expanded gradient, as a sum gives it.
    loss.sum().backward();
    const Tensor ones =
        gather_columns(logits.grad().transpose(0, 1), problem.logits);
    expect_close(ones, want.grad / token_weights(want.loss).unsqueeze(-1));
  });
}

TEST_P(ParallelCrossEntropyTest, TakesTargetsOfNarrowTypes) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const auto& [vocabulary, dtype] : {std::pair{256, at::kByte},
                                            {300, at::kByte},
                                            {128, at::kChar},
                                            {50257, at::kShort}}) {
      const Problem problem = make_problem(vocabulary);
      const Tensor narrow = problem.target.remainder(100).to(dtype);
      const int64_t size =
          (vocabulary + group->size() - 1) / group->size() * group->size();
      const Tensor logits =
          part(at::constant_pad_nd(problem.logits, {0, size - vocabulary}),
               problem.logits.dim() - 1, group);
      const auto loss = [&](const Tensor& target) {
        return parallel_cross_entropy(logits, target, 0.0, kIgnore, vocabulary);
      };
      testing::expect_equal(loss(narrow), loss(narrow.to(at::kLong)));
    }
  });
}

TEST_P(ParallelCrossEntropyTest, TakesTheVocabularyFromLogitsByDefault) {
  const Problem problem = make_problem(12 * GetParam());
  const Result want = dense(problem);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const Tensor logits = split(problem.logits, own_spec(problem.logits));
    expect_close(parallel_cross_entropy(logits, problem.target), want.loss);
  });
}

TEST_P(ParallelCrossEntropyTest, WorksWithoutAutograd) {
  const Problem problem = make_problem(7);
  const Result want = dense(problem);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const c10::InferenceMode inference;
    const Tensor logits = own_columns(problem.logits, own_spec(problem.logits));
    expect_close(parallel_cross_entropy(logits, problem.target, 0, kIgnore, 7),
                 want.loss);
  });
}

/// The gradient of a sum over elements of the gradient of `loss` squared, so
/// that both the logits and the loss's gradient have a part in it. Ranks each
/// sum their own elements.
Tensor second_derivative(const Tensor& logits, const Tensor& loss) {
  const Tensor grad =
      torch::autograd::grad({(loss * loss).sum()}, {logits}, {}, {},
                            /*create_graph=*/true)[0];
  return torch::autograd::grad({grad.pow(3).sum()}, {logits})[0];
}

TEST_P(ParallelCrossEntropyTest, SecondDerivativesMatchDense) {
  Problem problem = make_problem(7, at::kDouble, {4});
  problem.label_smoothing = 0.2;
  problem.target[1] = kIgnore;
  const Tensor whole = problem.logits.clone().set_requires_grad(true);
  const Tensor want = second_derivative(
      whole, at::cross_entropy_loss(whole, problem.target, {},
                                    at::Reduction::None, kIgnore, 0.2));
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const ShardSpec spec = own_spec(problem.logits);
    const Tensor own =
        own_columns(problem.logits, spec).set_requires_grad(true);
    const Tensor loss =
        parallel_cross_entropy(own, problem.target, 0.2, kIgnore, 7);
    expect_close(gather_columns(second_derivative(own, loss), problem.logits),
                 want);
  });
}

using ForwardOp = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&,
                                             double, int64_t, int64_t,
                                             std::string_view);
using BackwardOp = Tensor(const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&, double, int64_t, int64_t,
                          std::string_view);

/// The kernels for devices that have none of their own, run on CPU tensors.
TEST_P(ParallelCrossEntropyTest, KernelsOfOtherDevicesMatchTheCpus) {
  const c10::DispatchKeySet cuda(c10::DispatchKey::CUDA);
  const auto forward =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::parallel_cross_entropy", "")
          .typed<ForwardOp>();
  const auto backward =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::parallel_cross_entropy_backward", "")
          .typed<BackwardOp>();
  for (const double smoothing : {0.0, 0.1}) {
    Problem problem = make_problem(37);
    problem.label_smoothing = smoothing;
    problem.target[2][2] = kIgnore;
    problem.logits[0][0].slice(0, 0, 20).fill_(-kInfinity);
    const Result want = dense(problem);
    run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
      const c10::InferenceMode inference;
      const ShardSpec spec = own_spec(problem.logits);
      const Tensor logits = own_columns(problem.logits, spec);
      const auto [loss, rows] = forward.redispatch(
          cuda, logits, problem.target, smoothing, kIgnore, 37, "tp");
      expect_close(loss, want.loss);
      const Tensor grad =
          backward.redispatch(cuda, token_weights(loss), logits, problem.target,
                              rows, smoothing, kIgnore, 37, "tp");
      expect_close(gather_columns(grad, problem.logits), want.grad);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ParallelCrossEntropyTest,
                         ::testing::Values(1, 2, 3, 4));

/// What each rank of 2 is told about a wrong call; both before they
/// communicate, so that neither waits.
void expect_error(const std::function<void()>& call, const std::string& text) {
  run_tensor_parallel(
      2, [&](const GroupPtr&) { expect_throw<InvalidArgument>(call, text); });
}

TEST(ParallelCrossEntropyErrors, NamesATargetOutsideTheVocabulary) {
  const Tensor logits = at::zeros({3, 4});
  expect_error(
      [&] {
        parallel_cross_entropy(logits, at::tensor({0, 7, 9}), 0, 9, 7);
      },
      "parallel_cross_entropy: target 7 is outside the vocabulary [0, 7)");
  expect_error(
      [&] {
        parallel_cross_entropy(logits, at::tensor({0, -1, -100}));
      },
      "target -1 is outside the vocabulary [0, 8); targets without a loss are "
      "ignore_index, -100");
}

TEST(ParallelCrossEntropyErrors, NamesWhatDoesNotFit) {
  const Tensor logits = at::zeros({3, 4});
  const Tensor target = at::zeros({3}, at::kLong);
  expect_error(
      [&] {
        parallel_cross_entropy(logits, target.view({3, 1}));
      },
      "the target's shape [3, 1] does not fit logits of shape [3, 4]");
  expect_error([&] { parallel_cross_entropy(logits, target.to(at::kFloat)); },
               "targets are Float; they must be integers");
  expect_error([&] { parallel_cross_entropy(logits.to(at::kInt), target); },
               "logits are Int of shape [3, 4]; they must be floating");
  for (const double smoothing : {-0.1, 1.5, std::nan("")}) {
    expect_error([&] { parallel_cross_entropy(logits, target, smoothing); },
                 "is outside [0, 1]");
  }
  expect_error(
      [&] { parallel_cross_entropy(logits, target, 0, kIgnore, 10); },
      "vocab_size 10 over 2 ranks is 5 columns a rank, but logits have shape "
      "[3, 4]");
}

TEST(ParallelCrossEntropyErrors, AsksForParallelState) {
  run_ranks(1, [] {
    expect_throw<InvalidArgument>(
        [] {
          parallel_cross_entropy(at::zeros({3, 4}), at::zeros({3}, at::kLong));
        },
        "initialize_model_parallel");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers
