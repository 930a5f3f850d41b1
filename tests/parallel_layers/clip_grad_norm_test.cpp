// tests/parallel_layers/clip_grad_norm_test.cpp
#include "colonnade/parallel_layers/clip_grad_norm.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/sharding.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace ps = parallel_state;
using at::Tensor;
using testing::expect_close;
using testing::expect_throw;
using testing::run_tensor_parallel;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A parameter with this gradient.
Tensor with_gradient(const Tensor& gradient) {
  Tensor parameter = at::zeros_like(gradient).set_requires_grad(true);
  parameter.mutable_grad() = gradient.clone();
  return parameter;
}

/// A parameter that holds `spec` of a whole one with the gradient `whole`.
/// The padding's gradient is garbage.
Tensor shard_of(const Tensor& whole, const ShardSpec& spec,
                const std::string& group = "tp") {
  Tensor gradient = split(whole, spec);
  gradient.narrow(spec.dim, spec.held_size(), spec.padding()).fill_(77);
  Tensor parameter = with_gradient(gradient);
  set_tensor_parallel_attributes(parameter, {spec, group});
  return parameter;
}

ShardSpec padded(int64_t dim, int64_t whole_size) {
  return ShardSpec::padded(dim, whole_size,
                           ps::get_tensor_model_parallel_rank(),
                           ps::get_tensor_model_parallel_size());
}

/// The norm of all elements together, in double.
double norm_of(const std::vector<Tensor>& gradients, double p) {
  std::vector<Tensor> flat;
  for (const Tensor& gradient : gradients) {
    flat.push_back(gradient.reshape(-1).to(at::kDouble));
  }
  return at::linalg_vector_norm(at::cat(flat), p).item<double>();
}

Tensor random(at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
  static at::Generator generator = at::detail::createCPUGenerator(5);
  return at::randn(shape, generator, at::kDouble).to(dtype);
}

class ClipGradNormTest : public ::testing::TestWithParam<int> {};

TEST_P(ClipGradNormTest, MatchesTheUnshardedModel) {
  const std::vector<Tensor> wholes = {random({7, 5}), random({12, 3}),
                                      random({4, 24}), random({6}),
                                      random({3000})};
  const int64_t size = GetParam();
  for (const double p : {0.5, 1.0, 2.0, 3.0, 30.0, kInfinity}) {
    const double want = norm_of(wholes, p);
    for (const double max_norm : {0.0, want / 3, want * 2, kInfinity}) {
      SCOPED_TRACE(::testing::Message() << "p " << p << " max " << max_norm);
      const double factor = max_norm < want ? max_norm / (want + 1e-6) : 1.0;
      run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
        const int rank = group->rank();
        const std::vector<int64_t> segments{12, 12};
        const std::vector<ShardSpec> specs = {
            padded(0, 7), ShardSpec::even(0, 12, rank, size),
            ShardSpec::segments(1, segments, rank, size)};
        std::vector<Tensor> parameters = {
            shard_of(wholes[0], specs[0]), shard_of(wholes[1], specs[1]),
            shard_of(wholes[2], specs[2]), with_gradient(wholes[3]),
            with_gradient(wholes[4])};
        const Tensor norm = clip_grad_norm(parameters, max_norm, p);
        expect_close(norm, at::scalar_tensor(want, at::kDouble));
        for (size_t i = 0; i < parameters.size(); ++i) {
          Tensor scaled = wholes[i] * factor;
          Tensor got = parameters[i].grad();
          if (i < specs.size()) {
            scaled = split(scaled, specs[i]);
            got = got.narrow(specs[i].dim, 0, specs[i].held_size());
            scaled = scaled.narrow(specs[i].dim, 0, specs[i].held_size());
          }
          expect_close(got, scaled);
        }
      });
    }
  }
}

TEST_P(ClipGradNormTest, CountsTiedParametersAndSharedGradientsOnce) {
  const Tensor whole = random({8});
  const Tensor replicated = random({5});
  const double want = norm_of({whole, replicated}, 2);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const Tensor sharded = shard_of(whole, padded(0, 8));
    const Tensor first = with_gradient(replicated);
    Tensor second = at::zeros_like(first);
    second.mutable_grad() = first.grad();
    const Tensor norm =
        clip_grad_norm({sharded, first, sharded, second, first}, want / 2);
    expect_close(norm, at::scalar_tensor(want, at::kDouble));
    expect_close(second.grad(), replicated * (want / 2 / (want + 1e-6)));
  });
}

TEST_P(ClipGradNormTest, CountsAPartThatSeveralRanksHoldOnce) {
  // Two heads of 3 rows over the ranks, each rank with the whole head of its
  // part, and one weight that everyone holds but declares as a shard.
  const Tensor heads = random({6, 2});
  const Tensor everyones = random({4});
  const Tensor even = random({12});
  const double want = norm_of({heads, everyones, even}, 2);
  const int size = GetParam();
  run_tensor_parallel(size, [&](const GroupPtr& group) {
    const int rank = group->rank();
    const int64_t head = size == 1 ? 0 : rank * 2 / size;
    const int64_t held = size == 1 ? 6 : 3;
    const ShardSpec head_spec{0, 6, {{head * 3, head * 3 + held}}, held};
    const ShardSpec everyones_spec{0, 4, {{0, 4}}, 4};
    const Tensor norm = clip_grad_norm(
        {shard_of(heads, head_spec), shard_of(everyones, everyones_spec),
         shard_of(even, ShardSpec::even(0, 12, rank, size))},
        1.0);
    expect_close(norm, at::scalar_tensor(want, at::kDouble));
  });
}

TEST_P(ClipGradNormTest, TakesWhatRanksHaveWhereSomeHaveNoGradient) {
  const int last = GetParam() - 1;
  const Tensor shared = random({4});
  const Tensor own = random({2});
  const Tensor replicated = random({3});
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const int rank = group->rank();
    const ShardSpec shared_spec{0, 4, {{0, 4}}, 4};
    const std::vector<Tensor> parameters = {
        shard_of(shared, shared_spec),
        shard_of(own.repeat({last + 1}), padded(0, 2 * (last + 1))),
        with_gradient(replicated)};
    if (rank != last) {
      for (const Tensor& parameter : parameters) {
        parameter.mutable_grad() = Tensor();
      }
    }
    expect_close(
        clip_grad_norm(parameters, 1.0),
        at::scalar_tensor(norm_of({shared, own, replicated}, 2), at::kDouble));
  });
}

TEST_P(ClipGradNormTest, IsZeroWithoutGradients) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    Tensor sharded = at::ones({2}).set_requires_grad(true);
    set_tensor_parallel_attributes(sharded, {padded(0, 2 * GetParam()), "tp"});
    EXPECT_EQ(clip_grad_norm({sharded, at::ones({2})}, 1.0).item<double>(), 0);
    EXPECT_EQ(clip_grad_norm(std::vector<Tensor>{}, 1.0).item<double>(), 0);
    EXPECT_EQ(clip_grad_norm(std::vector<Tensor>{}, 1.0).dim(), 0);
  });
}

TEST_P(ClipGradNormTest, TakesASingleTensor) {
  const Tensor whole = random({8, 2});
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    expect_close(clip_grad_norm(shard_of(whole, padded(0, 8)), 1.0),
                 at::scalar_tensor(norm_of({whole}, 2), at::kDouble));
  });
}

TEST_P(ClipGradNormTest, TakesMixedDtypes) {
  const Tensor brief = random({40}, at::kBFloat16);
  const Tensor single = random({30}, at::kFloat);
  const double want = norm_of({brief, single}, 2);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    std::vector<Tensor> parameters = {shard_of(brief, padded(0, 40)),
                                      with_gradient(single)};
    expect_close(clip_grad_norm(parameters, want / 2),
                 at::scalar_tensor(want, at::kFloat), 1e-6);
    EXPECT_EQ(parameters[0].grad().scalar_type(), at::kBFloat16);
    expect_close(parameters[1].grad(), single / 2, 1e-6);
    EXPECT_EQ(clip_grad_norm(parameters[0], 1.0).scalar_type(), at::kBFloat16);
  });
}

TEST_P(ClipGradNormTest, IsTheSameOnEveryRank) {
  std::vector<Tensor> norms(static_cast<size_t>(GetParam()));
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const int rank = group->rank();
    // Replicas that have drifted apart by rounding.
    const Tensor replica = at::full({1000}, 0.1 + 1e-7 * rank, at::kFloat);
    const Tensor shard = at::full({100}, 0.1 * rank, at::kFloat);
    norms[static_cast<size_t>(rank)] = clip_grad_norm(
        {with_gradient(replica),
         shard_of(shard.repeat({GetParam()}), padded(0, 100 * GetParam()))},
        1.0);
  });
  for (const Tensor& norm : norms) {
    EXPECT_TRUE(at::equal(norm, norms[0]));
  }
}

TEST_P(ClipGradNormTest, DecidesAlikeOnEveryRankWhereANormIsNotFinite) {
  for (const double odd : {kInfinity, std::nan("")}) {
    run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
      Tensor whole = at::ones({4 * GetParam()});
      whole[0] = odd;  // on the first rank only
      const Tensor parameter = shard_of(whole, padded(0, 4 * GetParam()));
      const Tensor before = parameter.grad().clone();
      expect_throw<InvalidArgument>(
          [&] { clip_grad_norm({parameter}, 1.0, 2.0, true); },
          "clip_grad_norm: the gradients' norm of order 2 is ");
      EXPECT_TRUE(at::allclose(parameter.grad(), before, 0, 0,
                               /*equal_nan=*/true));

      // As torch: inf scales by 0, nan by nan.
      const Tensor norm = clip_grad_norm({parameter}, 1.0);
      EXPECT_FALSE(std::isfinite(norm.item<double>()));
      const Tensor want = std::isnan(odd) ? before * odd : before * 0;
      EXPECT_TRUE(
          at::allclose(parameter.grad(), want, 0, 0, /*equal_nan=*/true));
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ClipGradNormTest,
                         ::testing::Values(1, 2, 3, 4));

TEST(ClipGradNorm, CountsEachGroupOnce) {
  const Tensor over_tp = random({8});
  const Tensor over_pair = random({6});
  const Tensor replicated = random({5});
  const double want = norm_of({over_tp, over_pair, replicated}, 3);
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(2);
    ps::new_group("pair", {0, 1});
    const Tensor norm = clip_grad_norm(
        {shard_of(over_pair, ShardSpec::even(0, 6, rank, 2), "pair"),
         shard_of(over_tp, padded(0, 8)), with_gradient(replicated)},
        1.0, 3.0);
    expect_close(norm, at::scalar_tensor(want, at::kDouble));
  });
}

TEST(ClipGradNorm, IsExactForManyEqualElements) {
  // One running fp32 sum of these is off by 1e-3.
  const Tensor gradient = at::full({1 << 22}, 1.1, at::kFloat);
  const double want = norm_of({gradient}, 2);
  run_tensor_parallel(1, [&](const GroupPtr&) {
    EXPECT_NEAR(
        clip_grad_norm(with_gradient(gradient), kInfinity).item<double>() /
            want,
        1, 1e-6);
  });
}

TEST(ClipGradNorm, WorksOutsideOfParallelState) {
  const Tensor gradient = random({9});
  expect_close(clip_grad_norm(with_gradient(gradient), 1.0),
               at::scalar_tensor(norm_of({gradient}, 2), at::kDouble));
}

TEST(ClipGradNorm, RefusesWhatIsNotANorm) {
  const std::vector<Tensor> none;
  for (const double p : {0.0, -1.0, std::nan("")}) {
    expect_throw<InvalidArgument>([&] { clip_grad_norm(none, 1.0, p); },
                                  "is not a norm; it is above 0, or infinity");
  }
  expect_throw<InvalidArgument>([&] { clip_grad_norm(none, -2.0); },
                                "clip_grad_norm: max_norm -2 is negative");
  expect_throw<InvalidArgument>(
      [&] {
        clip_grad_norm({at::ones({2}), Tensor()}, 1.0);
      },
      "parameter 1 of 2 is undefined");
}

TEST(ClipGradNorm, NamesASparseGradient) {
  Tensor parameter = at::zeros({4, 2}).set_requires_grad(true);
  parameter.mutable_grad() = at::ones({4, 2}).to_sparse();
  expect_throw<InvalidArgument>(
      [&] {
        clip_grad_norm({at::ones({1}), parameter}, 1.0);
      },
      "parameter 1 of shape [4, 2] has a sparse gradient");
}

}  // namespace
}  // namespace colonnade::parallel_layers
