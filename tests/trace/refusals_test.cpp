// tests/trace/refusals_test.cpp
// What cannot be one graph is refused, with the op, the argument and the
// values.
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/expect.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::trace {
namespace {

namespace nn = torch::nn;
namespace ps = parallel_state;
using at::Tensor;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// A model whose forward is a function, with one parameter and one buffer.
struct FunctionImpl : nn::Module {
  using Body = std::function<Tensor(FunctionImpl&, const Tensor&)>;

  explicit FunctionImpl(Body f)
      : body(std::move(f)),
        weight(register_parameter("weight", torch::tensor({0.5, 2.0, 3.0}))),
        count(register_buffer("count", torch::zeros({1}))) {}
  Tensor forward(const Tensor& x) { return body(*this, x); }

  Body body;
  Tensor weight;
  Tensor count;
};
TORCH_MODULE(Function);

const Tensor kExample = torch::tensor({{1.0, 2.0, 3.0}, {4.0, 5.0, 6.0}});

TensorParallelModel trace_function(FunctionImpl::Body body, int degree = 1,
                                   const TraceOptions& options = {}) {
  return parallel_model_trace([=] { return Function(body); }, {kExample},
                              degree, options);
}

std::string refusal(FunctionImpl::Body body, int degree = 1) {
  return error_of<InvalidArgument>([&] { trace_function(body, degree); });
}

TEST(Refusals, FloatTakenOut) {
  EXPECT_THAT(refusal([](FunctionImpl& m, const Tensor& x) {
                return x * m.weight * x.sum().item<float>();
              }),
              AllOf(HasSubstr("call 1, aten::item, argument self"),
                    HasSubstr("the float 21 leaves the graph at inputs [2, 3]"),
                    HasSubstr("and 63 at inputs [6, 3]"),
                    HasSubstr("keep it a tensor")));
}

TEST(Refusals, ControlFlowThatDependsOnSizes) {
  EXPECT_THAT(refusal([](FunctionImpl& m, const Tensor& x) {
                return x.size(0) > 2 ? x + m.weight : x * m.weight;
              }),
              AllOf(HasSubstr("call 0, aten::mul.Tensor"),
                    HasSubstr("aten::mul.Tensor(%0, %1) at inputs [2, 3]"),
                    HasSubstr("aten::add.Tensor(%0, %1, 1) at inputs [4, 3]"),
                    HasSubstr("forward takes another way")));
}

TEST(Refusals, IntThatIsNoExpressionOfSizes) {
  EXPECT_THAT(refusal([](FunctionImpl& m, const Tensor& x) {
                const int64_t n = x.size(0) * x.size(0) * 5 % 7;
                return x * m.weight + torch::full({1}, n);
              }),
              AllOf(HasSubstr("aten::full, argument fill_value: "),
                    HasSubstr("at inputs [2, 3], but "),
                    HasSubstr("no expression of the sizes")));
}

TEST(Refusals, UnregisteredRandomWeight) {
  struct Model : nn::Module {
    Tensor forward(const Tensor& x) { return x * hidden; }
    Tensor hidden = torch::rand({3});
  };
  const std::string text = error_of<InvalidArgument>([] {
    parallel_model_trace([] { return std::make_shared<Model>(); }, {kExample});
  });
  EXPECT_THAT(text,
              AllOf(HasSubstr("call 0, aten::mul.Tensor, argument other"),
                    HasSubstr("no parameter and no buffer is Float [3] ("),
                    HasSubstr("in one build of the model, but Float [3]"),
                    HasSubstr("register it with the model")));
}

TEST(Refusals, SetDataInForward) {
  EXPECT_THAT(refusal([](FunctionImpl& m, const Tensor& x) {
                m.weight.set_data(torch::tensor({7.0, 8.0, 9.0}));
                return x * m.weight;
              }),
              AllOf(HasSubstr("aten::mul.Tensor, argument other: weight was "
                              "given other data in forward"),
                    HasSubstr("it held Float [3] (0.5, 2, 3)"),
                    HasSubstr("and holds Float [3] (7, 8, 9)")));
}

TEST(Refusals, RankDependentConstant) {
  EXPECT_THAT(
      refusal(
          [](FunctionImpl& m, const Tensor& x) {
            return x * m.weight + ps::get_tensor_model_parallel_rank();
          },
          2),
      AllOf(HasSubstr("call 1, aten::add.Scalar, argument other: 0 on rank 0, "
                      "but 1 on rank 1"),
            HasSubstr("ranks have one graph, so forward must not ask for its "
                      "rank")));
  EXPECT_THAT(refusal(
                  [](FunctionImpl& m, const Tensor& x) {
                    return x * m.weight +
                           at::tensor(std::vector<int64_t>{
                               ps::get_tensor_model_parallel_rank(), 5, 6});
                  },
                  2),
              AllOf(HasSubstr(
                  "aten::add.Tensor, argument other: a tensor that is no "
                  "parameter and no buffer is Long [3] (0, 5, 6) on rank 0, "
                  "but Long [3] (1, 5, 6) on rank 1")));
}

TEST(Refusals, CounterHiddenInTheModel) {
  auto calls = std::make_shared<std::atomic<int>>(0);
  EXPECT_THAT(refusal([calls](FunctionImpl& m, const Tensor& x) {
                Tensor y = x * m.weight;
                y.data_ptr<float>()[0] = static_cast<float>(++*calls);
                return y + 1;
              }),
              HasSubstr("replay differs from forward"));
}

TEST(Refusals, ParameterWrittenInForward) {
  EXPECT_THAT(refusal([](FunctionImpl& m, const Tensor& x) {
                m.weight.add_(1);
                return x * m.weight;
              }),
              AllOf(HasSubstr("aten::add_"),
                    HasSubstr("forward writes to the parameter weight"),
                    HasSubstr("make it a buffer")));
}

TEST(Refusals, RandomOpsUnlessAsked) {
  const auto noisy = [](FunctionImpl& m, const Tensor& x) {
    return x * m.weight + torch::rand_like(x);
  };
  EXPECT_THAT(refusal(noisy),
              AllOf(HasSubstr("aten::rand_like"), HasSubstr("allow_random")));
  TraceOptions options;
  options.allow_random = true;
  TensorParallelModel model = trace_function(noisy, 2, options);
  const Tensor first = model(kExample);
  EXPECT_FALSE(at::equal(first, model(kExample)));
  EXPECT_EQ(first.sizes(), kExample.sizes());
}

TEST(Refusals, DropoutInEvalStateIsNotRandom) {
  const auto body = [](FunctionImpl& m, const Tensor& x) {
    return nn::functional::dropout(
        x * m.weight,
        nn::functional::DropoutFuncOptions().training(m.is_training()));
  };
  TensorParallelModel model = trace_function(body);
  EXPECT_TRUE(
      at::equal(model(kExample), kExample * torch::tensor({0.5, 2.0, 3.0})));
}

TEST(Refusals, WrongDegreeAndNoModel) {
  EXPECT_THAT(refusal([](FunctionImpl&, const Tensor& x) { return x; }, 0),
              HasSubstr("tp_degree is 0; it must be at least 1"));
  EXPECT_THAT(error_of<InvalidArgument>([] {
                parallel_model_trace(
                    [] { return std::shared_ptr<FunctionImpl>(); }, {kExample});
              }),
              HasSubstr("func gives no model"));
}

TEST(Guards, AnotherBoolThrowsAndNamesTheOp) {
  TensorParallelModel model =
      trace_function([](FunctionImpl& m, const Tensor& x) {
        return x.gt(0).all().is_nonzero() ? x * m.weight : x - m.weight;
      });
  EXPECT_TRUE(
      at::equal(model(kExample), kExample * torch::tensor({0.5, 2.0, 3.0})));
  EXPECT_THAT(
      error_of<InvalidArgument>([&] { model(-kExample); }),
      AllOf(HasSubstr("guard: aten::is_nonzero gives false, but gave true"),
            HasSubstr("trace again")));
  EXPECT_THAT(to_string(model.graph()), HasSubstr("guard == true = "));
  EXPECT_TRUE(
      at::equal(model(kExample), kExample * torch::tensor({0.5, 2.0, 3.0})));
}

TEST(Guards, AnotherIntThrowsAndNamesTheOp) {
  TensorParallelModel model =
      trace_function([](FunctionImpl& m, const Tensor& x) {
        const int64_t first = x.flatten()[0].to(torch::kLong).item<int64_t>();
        return (x * m.weight).narrow(1, 0, first + 1);
      });
  EXPECT_EQ(model(kExample).size(1), 2);
  EXPECT_THAT(error_of<InvalidArgument>([&] { model(kExample + 1); }),
              HasSubstr("guard: aten::item gives 2, but the recorded program "
                        "goes on with 1"));
}

TEST(Guards, IntThatFollowsFromSizesIsAnExpression) {
  TensorParallelModel model =
      trace_function([](FunctionImpl& m, const Tensor& x) {
        const int64_t rows =
            torch::ones({x.size(0)}, torch::kLong).sum().item<int64_t>();
        return (x * m.weight).reshape({rows * x.size(1)});
      });
  EXPECT_EQ(model(torch::ones({7, 3})).numel(), 21);
}

}  // namespace
}  // namespace colonnade::trace
