// tests/trace/tensor_parallel_model_test.cpp
// Calls of a traced model: what goes in and out, errors, sessions, threads.
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/expect.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace colonnade::trace {
namespace {

namespace nn = torch::nn;
namespace pl = parallel_layers;
namespace ps = parallel_state;
using at::Tensor;
using c10::IValue;
using colonnade::testing::expect_equal;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct HeadImpl : nn::Module {
  HeadImpl() : head(pl::ColumnParallelLinearOptions(3, 4)) {
    register_module("head", head);
  }
  Tensor forward(const Tensor& x) { return head(x); }
  pl::ColumnParallelLinear head;
};
TORCH_MODULE(Head);

Head make_head() {
  manual_seed(5);
  return Head();
}

Tensor head_of(const Tensor& x) {
  Tensor y;
  run_ranks(1, [&] {
    ps::initialize_model_parallel();
    const c10::InferenceMode inference;
    y = make_head()->forward(x);
  });
  return y;
}

std::string call_error(TensorParallelModel& model,
                       const std::vector<IValue>& inputs) {
  return error_of<InvalidArgument>([&] { model.forward(inputs); });
}

TEST(TensorParallelModel, RefusesInputsThatItsGraphDoesNotTake) {
  TensorParallelModel model =
      parallel_model_trace(make_head, {torch::ones({2, 3})}, 2);
  const Tensor x = torch::ones({2, 3});
  EXPECT_THAT(call_error(model, {x, x}),
              HasSubstr("2 inputs, but the model was traced with 1"));
  EXPECT_THAT(call_error(model, {x.to(torch::kDouble)}),
              HasSubstr("input 0: is Double, the graph takes Float; convert it "
                        "with to()"));
  EXPECT_THAT(
      call_error(model, {torch::ones({2, 2, 3})}),
      HasSubstr("input 0: has shape [2, 2, 3], the graph takes 2 dims"));
  EXPECT_THAT(call_error(model, {torch::ones({2, 4})}),
              HasSubstr("input 0: has shape [2, 4], but dim 1 is fixed to 3"));
  EXPECT_THAT(call_error(model, {torch::ones({2, 3}, torch::kMeta)}),
              HasSubstr("input 0: is on meta, the model on cpu"));
  EXPECT_THAT(call_error(model, {int64_t{3}}),
              HasSubstr("input 0: is Int, the graph takes a tensor"));
  EXPECT_THAT(
      call_error(model, {std::vector<Tensor>{x}}),
      HasSubstr("input 0: is a list of 1, but the model was traced with "
                "a leaf"));
  EXPECT_THAT(call_error(model, {Tensor()}), HasSubstr("input 0 is undefined"));
  expect_equal(model(x), head_of(x));
}

TEST(TensorParallelModel, DimOfOneInTheExampleIsFixedUnlessNamed) {
  const Tensor one = torch::ones({1, 3});
  TensorParallelModel fixed = parallel_model_trace(make_head, {one});
  EXPECT_THAT(call_error(fixed, {torch::ones({2, 3})}),
              AllOf(HasSubstr("dim 0 is fixed to 1, as in the example"),
                    HasSubstr("dynamic_dims")));
  TraceOptions options;
  options.dynamic_dims = {{0}};
  TensorParallelModel model =
      parallel_model_trace(make_head, {one}, 1, options);
  const Tensor x = torch::randn({4, 3});
  expect_equal(model(x), head_of(x));
}

/// Tensors in and out in every kind of container.
struct ContainersImpl : nn::Module {
  using Pair = std::tuple<Tensor, Tensor>;
  using Named = c10::Dict<std::string, Tensor>;
  using Output =
      std::tuple<std::vector<Tensor>, Named, int64_t, std::optional<Tensor>>;

  Output forward(const Pair& pair, const std::vector<Tensor>& list,
                 const Named& named, const std::optional<Tensor>& bias,
                 int64_t times, double scale, bool negate) {
    const auto& [a, b] = pair;
    Tensor sum = a + b * scale;
    for (const Tensor& item : list) {
      sum = sum + item;
    }
    Named out;
    out.insert("sum", negate ? -sum : sum);
    out.insert("narrow", sum.narrow(0, times, a.size(0) - times));
    return {{sum, named.at("x") * times}, out, a.size(0) * 2, bias};
  }
};
TORCH_MODULE(Containers);

TEST(TensorParallelModel, TakesAndGivesContainersAndNumbers) {
  const auto inputs = [](int64_t rows, int64_t times, double scale) {
    const Tensor a = torch::arange(rows * 2).to(torch::kFloat).view({rows, 2});
    ContainersImpl::Named named;
    named.insert("x", a + 7);
    return std::vector<IValue>{std::tuple(a, a + 1),
                               std::vector<Tensor>{a + 2, a + 3},
                               named,
                               std::optional<Tensor>(),
                               times,
                               scale,
                               true};
  };
  TensorParallelModel model =
      parallel_model_trace([] { return Containers(); }, inputs(5, 2, 0.5), 2);
  ContainersImpl plain;
  for (const auto& [rows, times, scale] :
       {std::tuple<int64_t, int64_t, double>{5, 2, 0.5}, {9, 4, -3.0}}) {
    const std::vector<IValue> in = inputs(rows, times, scale);
    const auto got = model.forward(in).to<ContainersImpl::Output>();
    const auto want = plain.forward(
        in[0].to<ContainersImpl::Pair>(), in[1].to<std::vector<Tensor>>(),
        in[2].to<ContainersImpl::Named>(), std::nullopt, times, scale, true);
    for (size_t i = 0; i < 2; ++i) {
      expect_equal(std::get<0>(got)[i], std::get<0>(want)[i]);
    }
    for (const std::string name : {"sum", "narrow"}) {
      expect_equal(std::get<1>(got).at(name), std::get<1>(want).at(name));
    }
    EXPECT_EQ(std::get<2>(got), rows * 2);
    EXPECT_FALSE(std::get<3>(got).has_value());
  }
  std::vector<IValue> in = inputs(5, 2, 0.5);
  in[6] = false;
  EXPECT_THAT(call_error(model, in),
              HasSubstr("input 6: is False, but the graph was recorded with "
                        "true and takes nothing else there"));
  in = inputs(5, 2, 0.5);
  ContainersImpl::Named other;
  other.insert("y", torch::ones({5, 2}));
  in[2] = other;
  EXPECT_THAT(
      call_error(model, in),
      HasSubstr("input 2: is a dict of 1, but the model was traced with "
                "a dict of 1 of other items or keys"));
  in = inputs(5, 2, 0.5);
  in[0] = std::tuple(torch::ones({4, 2}), torch::ones({5, 2}));
  EXPECT_THAT(call_error(model, in),
              HasSubstr("input 0[1]: dim 0 is 5, but 4 in an input before it"));
  EXPECT_THAT(
      error_of<InvalidArgument>([&] {
        model(torch::ones({2, 2}));
      }),
      HasSubstr("the model gives a tuple of 4, not a tensor; call forward"));
}

/// Takes floats only as far as each goes, and not all sizes at once.
struct BoundedImpl : nn::Module {
  Tensor forward(const Tensor& x, const Tensor& y, double fixed,
                 double probability, double scale) {
    check_arg(fixed == 3.0, "fixed is 3");
    check_arg(0 < probability && probability <= 1, "no probability");
    check_arg(x.size(0) == 4 || y.size(0) == 6, "one of both must stay");
    return x.view({x.size(0), 1}) * scale +
           torch::dropout(y, probability, is_training()).view({y.size(0)}) *
               fixed;
  }
};
TORCH_MODULE(Bounded);

TEST(TensorParallelModel, AFloatVariesWhereTheModelTakesOthers) {
  for (const int degree : {1, 2}) {
    const Tensor y = torch::arange(6.0);
    TensorParallelModel model = parallel_model_trace(
        [] { return Bounded(); }, {torch::ones(4), y, 3.0, 0.9, 0.9}, degree);
    EXPECT_FALSE(model.graph().fixed.has_value()) << *model.graph().fixed;
    for (const double probability : {0.9, 0.2, 1.0}) {
      const Tensor x = torch::arange(7.0);
      expect_equal(model.forward({x, y, 3.0, probability, -5.0}).toTensor(),
                   x.view({7, 1}) * -5.0 + y * 3.0);
    }
    EXPECT_THAT(call_error(model, {torch::ones(4), y, 2.0, 0.9, 0.9}),
                HasSubstr("input 2"));
  }
}

/// Throws on rank 1 alone, where the input says so: an op of the graph does.
struct ThrowingImpl : nn::Module {
  ThrowingImpl() : embedding(pl::ParallelEmbeddingOptions(6, 2)) {
    register_module("embedding", embedding);
  }
  Tensor forward(const Tensor& ids) { return embedding(ids); }
  pl::ParallelEmbedding embedding;
};
TORCH_MODULE(Throwing);

TEST(TensorParallelModel, ErrorOnARankReachesTheCallerAndTheNextCallWorks) {
  TensorParallelModel model = parallel_model_trace(
      [] { return Throwing(); }, {torch::tensor({0, 1, 2})}, 2);
  const Tensor good = torch::tensor({5, 3});
  const Tensor want = model(good);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(error_of<InvalidArgument>([&] {
                  model(torch::tensor({1, 9}));
                }),
                AllOf(HasSubstr("rank "),
                      HasSubstr("ParallelEmbedding: id 9 is outside [0, 6)")));
    expect_equal(model(good), want);
  }
}

struct CounterImpl : nn::Module {
  CounterImpl()
      : total(register_buffer("total", torch::zeros({2}))),
        count(register_buffer("count", torch::full({1}, 10, torch::kLong))) {}
  Tensor forward(const Tensor& x) {
    total.add_(x.sum(0));
    count.add_(1);
    return total / count;
  }
  Tensor total;
  Tensor count;
};
TORCH_MODULE(Counter);

TEST(TensorParallelModel, BuffersThatForwardWritesAreStateOfASession) {
  TensorParallelModel model =
      parallel_model_trace([] { return Counter(); }, {torch::ones({3, 2})}, 2);
  int states = 0;
  for (const Weight& weight : model.graph().weights) {
    states += weight.kind == Weight::Kind::kState ? 1 : 0;
  }
  EXPECT_EQ(states, 2);
  const Tensor x = torch::tensor({{1.0, 2.0}});
  const Tensor once = torch::tensor({1.0, 2.0}) / 11;
  const Tensor twice = torch::tensor({2.0, 4.0}) / 12;
  TraceOptions options;
  options.dynamic_dims = {{0}};
  model = parallel_model_trace([] { return Counter(); }, {x}, 2, options);
  TensorParallelModel other = model.new_session();
  expect_equal(model(x), once);
  expect_equal(other(x), once);
  expect_equal(model(x), twice);
  model.reset_state();
  expect_equal(model(x), once);
  expect_equal(other(x), twice);
  TensorParallelModel same = other;  // a copy is the same session
  EXPECT_FALSE(at::equal(same(x), twice));
}

TEST(TensorParallelModel, InputWrittenInPlaceStaysTheCallers) {
  struct Model : nn::Module {
    Tensor forward(const Tensor& x) { return Tensor(x).mul_(2).add_(1); }
  };
  TensorParallelModel model = parallel_model_trace(
      [] { return std::make_shared<Model>(); }, {torch::ones({2})}, 2);
  const Tensor x = torch::tensor({3.0, 4.0, 5.0});
  expect_equal(model(x), torch::tensor({7.0, 9.0, 11.0}));
  expect_equal(x, torch::tensor({3.0, 4.0, 5.0}));
}

TEST(TensorParallelModel, ComparesTheOutputsOfAllRanks) {
  struct Model : nn::Module {
    Tensor forward(const Tensor& x) {
      return pl::scatter_to_tensor_model_parallel_region(x, 0);
    }
  };
  TensorParallelModel model = parallel_model_trace(
      [] { return std::make_shared<Model>(); }, {torch::ones({4})}, 2);
  const Tensor x = torch::tensor({1.0, 2.0, 3.0, 4.0});
  expect_equal(model(x), torch::tensor({1.0, 2.0}));
  expect_equal(model.forward_all_ranks({x})[1].toTensor(),
               torch::tensor({3.0, 4.0}));
  model.compare_ranks();
  EXPECT_THAT(error_of<CommError>([&] { model(x); }),
              HasSubstr("output 0 of rank 1 differs from that of rank 0"));
}

TEST(TensorParallelModel, ModelsOfManyForms) {
  const Tensor x = torch::randn({2, 3});
  TensorParallelModel shared = parallel_model_trace(
      [] {
        manual_seed(5);
        return std::make_shared<HeadImpl>();
      },
      {x});
  TensorParallelModel any =
      parallel_model_trace([] { return nn::AnyModule(make_head()); }, {x});
  TensorParallelModel sequential =
      parallel_model_trace([] { return nn::Sequential(make_head()); }, {x});
  TensorParallelModel given = parallel_model_trace(
      [] {
        auto head = make_head();
        return Traceable{head.ptr(),
                         [head](const std::vector<IValue>& in) mutable {
                           return IValue(head(in[0].toTensor()));
                         }};
      },
      {x});
  for (TensorParallelModel* model : {&shared, &any, &sequential, &given}) {
    expect_equal((*model)(x), head_of(x));
  }
}

TEST(TensorParallelModel, TracedByTheRanksOfALauncher) {
  const Tensor x = torch::randn({2, 3});
  const Tensor want = head_of(x);
  run_ranks(4, [&] {
    ps::initialize_model_parallel(2);
    TensorParallelModel model = parallel_model_trace(make_head, {x}, 2);
    expect_equal(model(x), want);
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { parallel_model_trace(make_head, {x}, 4); }),
                HasSubstr("tp_degree is 4, but these ranks have a "
                          "tensor-parallel size of 2"));
    EXPECT_THAT(error_of<InvalidArgument>([&] {
                  parallel_model_trace(
                      [] { return std::shared_ptr<HeadImpl>(); }, {x}, 2);
                }),
                HasSubstr("func gives no model"));
  });
}

size_t count_threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

TEST(TensorParallelModel, ServesManyThreadsWhileOneMakesBadCalls) {
  constexpr int kCalls = 2500;
  const size_t before = count_threads();
  {
    TensorParallelModel model = parallel_model_trace(
        [] { return Throwing(); }, {torch::tensor({0, 1, 2})}, 2);
    const Tensor table = model(torch::arange(6));
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    std::thread bad([&] {
      while (!done) {
        EXPECT_THROW(model(torch::tensor({9, 9})), InvalidArgument);
        EXPECT_THROW(model(torch::ones({2})), InvalidArgument);
      }
    });
    std::vector<std::thread> threads;
    for (int number = 0; number < 4; ++number) {
      threads.emplace_back([&, number] {
        const Tensor ids = torch::tensor({number, 5 - number});
        const Tensor want = table.index_select(0, ids);
        for (int i = 0; i < kCalls; ++i) {
          wrong += at::equal(model(ids), want) ? 0 : 1;
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    done = true;
    bad.join();
    EXPECT_EQ(wrong, 0);
  }
  EXPECT_LE(count_threads(), before);
}

}  // namespace
}  // namespace colonnade::trace
