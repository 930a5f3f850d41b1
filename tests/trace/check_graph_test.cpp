// tests/trace/check_graph_test.cpp
#include "colonnade/trace/detail/check_graph.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/trace/detail/callable_ops.h"
#include "colonnade/trace/detail/graph_json.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/error_of.h"
#include "tests/trace/some_graphs.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

namespace nn = torch::nn;
namespace pl = parallel_layers;
using at::Tensor;
using testing::small_graph;

void check(const Graph& graph,
           const std::vector<std::string>& more_namespaces = {}) {
  std::vector<std::string> namespaces = default_namespaces();
  namespaces.insert(namespaces.end(), more_namespaces.begin(),
                    more_namespaces.end());
  check_graph(graph, "g", namespaces);
}

/// What is said of the small graph after `change`.
template <typename Change>
std::string error_after(Change&& change) {
  Graph graph = small_graph();
  change(graph);
  return error_of<CheckpointError>([&] { check(graph); });
}

/// What is said where the small graph's first call is this one; its values 0
/// to 2 are a tensor, a tensor and free.
std::string error_of_call(std::string op, std::vector<Argument> arguments,
                          std::vector<Result> results = {Value{2}},
                          const std::vector<std::string>& namespaces = {}) {
  Graph graph = small_graph();
  graph.nodes = {{std::move(op), std::move(arguments), std::move(results)}};
  graph.outputs = {{Value{0}}, {ExpressionRef{0}}};
  try {
    check(graph, namespaces);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "";
}

TEST(CheckGraph, TakesAGoodGraph) {
  check(small_graph());
  Graph nothing;
  nothing.variables = {{"degree", 1}};
  nothing.input_structure.kind = Structure::Kind::kTuple;
  nothing.output_structure.kind = Structure::Kind::kNone;
  check(nothing);
}

/// In place, lists, guards, random numbers, constants, a state, ints and floats
/// of the caller.
struct ManyOpsImpl : nn::Module {
  ManyOpsImpl()
      : up(pl::ColumnParallelLinearOptions(8, 12).gather_output(false)),
        down(pl::RowParallelLinearOptions(12, 8).input_is_parallel(true)),
        conv(nn::Conv1dOptions(8, 8, 3).padding(1)),
        gru(nn::GRUOptions(8, 8).batch_first(true)) {
    register_module("up", up);
    register_module("down", down);
    register_module("conv", conv);
    register_module("gru", gru);
    count = register_buffer("count", torch::zeros({}));
  }
  std::tuple<Tensor, std::vector<Tensor>> forward(const Tensor& x,
                                                  int64_t shift, double scale) {
    count.add_(1);
    Tensor y = down(torch::gelu(up(x)).mul_(scale)).contiguous();
    y = y.index({torch::indexing::Slice(), torch::tensor({0, 1}), "..."});
    y = torch::cat({y, x, torch::zeros_like(x) + 2.5}, 1).roll(shift, 1);
    y = conv(y.transpose(1, 2)).transpose(1, 2).to(torch::kDouble);
    y = std::get<0>(gru(y.to(torch::kFloat)));
    y = torch::where(y > 0, y, torch::full({}, 0.5)) * count;
    y = torch::stft(y.select(2, 0), 4, 2, 4, torch::hann_window(4), false, true,
                    true)
            .abs();
    if (torch::isnan(y).any().item<bool>()) {
      y = y.nan_to_num();
    }
    return {y, y.chunk(2, 1)};
  }
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
  nn::Conv1d conv;
  nn::GRU gru;
  Tensor count;
};
TORCH_MODULE(ManyOps);

TEST(CheckGraph, TakesWhatIsRecordedAndUnified) {
  for (const int degree : {1, 2}) {
    const TensorParallelModel model =
        parallel_model_trace([] { return ManyOps(); },
                             {torch::ones({2, 4, 8}), int64_t{3}, 0.5}, degree);
    const std::string text = to_json(model.graph());
    const Graph again = graph_from_json(text, "g");
    check(model.graph());
    check(again);
    EXPECT_EQ(to_json(again), text);
    EXPECT_EQ(to_string(again), to_string(model.graph()));
  }
}

TEST(CheckGraph, LimitsDegreesVariablesAndExpressions) {
  EXPECT_EQ(error_after([](Graph& g) { g.degree = 0; }),
            "g: has degree 0; a degree is 1 to 4096");
  EXPECT_EQ(error_after([](Graph& g) { g.degree = 4097; }),
            "g: has degree 4097; a degree is 1 to 4096");
  EXPECT_EQ(error_after([](Graph& g) { g.degree = 3; }),
            "g: variable 0 is 2, and the degree 3; they are the same");
  EXPECT_EQ(error_after([](Graph& g) { g.variables.clear(); }),
            "g: has no variables; variable 0 is the degree");
  EXPECT_EQ(error_after([](Graph& g) { g.variables.resize(257); }),
            "g: has 257 variables; there are at most 256");
  EXPECT_EQ(error_after([](Graph& g) { g.variables[1].name = ""; }),
            "g: a variable has a name of 0 bytes");
  EXPECT_EQ(error_after([](Graph& g) {
              g.variables.push_back({"s1", 3});
            }),
            "g: variable 2, s1: no input gives it");
  EXPECT_EQ(error_after([](Graph& g) { g.expressions[0].divisor = 0; }),
            "g: expression $0: divides by 0, not by 1 to 2147483648");
  EXPECT_EQ(
      error_after([](Graph& g) { g.expressions[0].terms[0].variables = {2}; }),
      "g: expression $0: has variable 2 of 2");
  EXPECT_EQ(
      error_after([](Graph& g) { g.expressions[0].terms[0].variables = {-1}; }),
      "g: expression $0: has variable -1 of 2");
  EXPECT_EQ(error_after([](Graph& g) { g.expressions[0].terms.resize(33); }),
            "g: expression $0: has 33 terms; there are at most 32");
  EXPECT_EQ(error_after([](Graph& g) {
              g.expressions[0].terms[0].variables.assign(5, 1);
            }),
            "g: expression $0: multiplies 5 variables; there are at most 4");
  EXPECT_EQ(error_after([](Graph& g) { g.prologue = g.nodes; }),
            "g: has a prologue, which no file has");
  EXPECT_EQ(error_after([](Graph& g) { g.outputs.resize(kMaxItems + 1); }),
            "g: has 1048577 outputs; there are at most 1048576");
}

TEST(CheckGraph, MatchesLeavesWithStructures) {
  EXPECT_EQ(error_after([](Graph& g) { g.input_structure = {}; }),
            "g: the structure of the inputs: is no tuple");
  EXPECT_EQ(error_after([](Graph& g) { g.inputs.clear(); }),
            "g: the structure of the inputs: has 1 leaves for 0 inputs");
  EXPECT_EQ(error_after([](Graph& g) { g.outputs.pop_back(); }),
            "g: the structure of the output: has 2 leaves for 1 outputs");
  EXPECT_EQ(error_after([](Graph& g) { g.output_structure = {}; }),
            "g: the structure of the output: has 1 leaves for 2 outputs");
  EXPECT_EQ(error_after([](Graph& g) {
              g.output_structure.kind = Structure::Kind::kLeaf;
            }),
            "g: the structure of the output: a leaf has items");
  EXPECT_EQ(error_after([](Graph& g) {
              g.output_structure.kind = Structure::Kind::kDict;
            }),
            "g: the structure of the output: has 0 keys for 2 items");
  const auto keys = [](Argument a, Argument b) {
    return error_after([&](Graph& g) {
      g.output_structure.kind = Structure::Kind::kDict;
      g.output_structure.keys = {a, b};
    });
  };
  EXPECT_EQ(keys({int64_t{1}}, {std::string("1")}),
            "g: the structure of the output: a dict has a string as a key; all "
            "are strings, or all are ints");
  EXPECT_EQ(keys({true}, {false}),
            "g: the structure of the output: a dict has a bool as a key; all "
            "are strings, or all are ints");
  EXPECT_EQ(keys({int64_t{1}}, {int64_t{1}}),
            "g: the structure of the output: a dict has the key 1 twice");
  EXPECT_EQ(error_after([](Graph& g) {
              for (int i = 0; i < 40; ++i) {
                g.output_structure = {
                    Structure::Kind::kList, {g.output_structure}, {}};
              }
            }),
            "g: the structure of the output: is nested more than 32 deep");
}

TEST(CheckGraph, ChecksInputsWeightsAndValues) {
  const auto input = [](auto&& change) {
    return error_after([&](Graph& g) { change(g.inputs[0]); });
  };
  EXPECT_EQ(input([](Input& i) { i.value = 4; }),
            "g: input 0: is value %4 of 4");
  EXPECT_EQ(input([](Input& i) { i.value = -1; }),
            "g: input 0: is value %-1 of 4");
  EXPECT_EQ(input([](Input& i) { i.dims[0].variable = 2; }),
            "g: input 0: gives variable 2 of 2");
  EXPECT_EQ(input([](Input& i) { i.dims[0].variable = 0; }),
            "g: input 0: gives variable 0 of 2");
  EXPECT_EQ(input([](Input& i) { i.dims[1].size = -8; }),
            "g: input 0: has a dim of size -8");
  EXPECT_EQ(input([](Input& i) { i.dims.resize(65); }),
            "g: input 0: has 65 dims; there are at most 64");
  EXPECT_EQ(input([](Input& i) { i.variable = 1; }),
            "g: input 0: gives a variable, but is no int");
  EXPECT_EQ(input([](Input& i) { i.kind = Input::Kind::kBool; }),
            "g: input 0: was nothing in the example, which does not fit its "
            "kind");
  EXPECT_EQ(input([](Input& i) {
              i.kind = Input::Kind::kInt;
              i.constant = {1.5};
            }),
            "g: input 0: was a float in the example, which does not fit its "
            "kind");
  EXPECT_EQ(error_after([](Graph& g) { g.weights[0].value = 0; }),
            "g: parameter up.bias: is value %0, which is something else "
            "already");
  EXPECT_EQ(error_after([](Graph& g) { g.weights[0].value = 7; }),
            "g: parameter up.bias: is value %7 of 4");
  EXPECT_EQ(error_after([](Graph& g) { g.weights[0].aliases = {"up.bias"}; }),
            "g: parameter up.bias: there are two of that name");
  EXPECT_EQ(error_after([](Graph& g) { g.weights[0].name = ""; }),
            "g: a weight has a name of 0 bytes");
  EXPECT_EQ(error_after([](Graph& g) {
              g.values.push_back({at::kFloat, {2}, 8});
              g.weights.push_back({Weight::Kind::kBuffer, "down.bias", {}, 4});
            }),
            "g: buffer down.bias: there are two of that name");
  Graph graph = small_graph();
  graph.values.push_back({at::kFloat, {2}, 8});
  graph.weights.push_back({Weight::Kind::kConstant, "up.bias", {}, 4});
  check(graph);  // constants are stored apart
  EXPECT_EQ(error_after([](Graph& g) { g.values[2].example_shape = {-1}; }),
            "g: value %2: has a dim of size -1");
  EXPECT_EQ(error_after([](Graph& g) { g.values[2].example_bytes = -1; }),
            "g: value %2: has -1 bytes, which 48 elements of Float do not "
            "have");
  EXPECT_EQ(error_after([](Graph& g) {
              g.values[2].example_shape = {int64_t{1} << 40, int64_t{1} << 40};
            }),
            "g: value %2: has shape [1099511627776, 1099511627776], which is "
            "too large");
  EXPECT_EQ(error_after([](Graph& g) { g.weights[0].split_dim = 0; }),
            "g: parameter up.bias: is split along dim 0 of 0");
}

TEST(CheckGraph, WantsValuesMadeBeforeTheyAreUsed) {
  EXPECT_EQ(error_after([](Graph& g) { std::swap(g.nodes[0], g.nodes[1]); }),
            "g: call 0, aten::view, argument self: is value %2, which nothing "
            "has given yet");
  EXPECT_EQ(error_after([](Graph& g) { g.outputs[0] = {Value{9}}; }),
            "g: output 0: is value %9 of 4");
  EXPECT_EQ(error_after([](Graph& g) { g.nodes.pop_back(); }),
            "g: output 0: is value %3, which nothing has given yet");
  EXPECT_EQ(error_after([](Graph& g) { g.nodes[1].results = {Value{1}}; }),
            "g: call 1, aten::view, result 0: is value %1, which is made "
            "already and not one of the arguments");
  EXPECT_EQ(error_after([](Graph& g) { g.nodes[1].results = {Value{-1}}; }),
            "g: call 1, aten::view, result 0: is value %-1 of 4");
  EXPECT_EQ(error_of_call("aten::add_.Tensor",
                          {{Value{0}}, {Value{1}}, {int64_t{1}}}, {Value{0}}),
            "");
  EXPECT_EQ(error_of_call("aten::unbind.int", {{Value{0}}, {int64_t{0}}},
                          {std::vector<Value>{{2}, {-1}, {3}}}),
            "");
  EXPECT_EQ(error_of_call("aten::unbind.int", {{Value{0}}, {int64_t{0}}},
                          {std::vector<Value>{{2}, {-2}}}),
            "g: call 0, aten::unbind.int, result 0: is value %-2 of 4");
  EXPECT_EQ(error_after([](Graph& g) { g.outputs[1] = {ExpressionRef{1}}; }),
            "g: output 1: is expression $1 of 1");
  EXPECT_EQ(error_after([](Graph& g) { g.outputs[1] = {FloatInput{0}}; }),
            "g: output 1: is input 0, which is no float input");
  EXPECT_EQ(error_after([](Graph& g) { g.outputs[1] = {ArgumentList{}}; }),
            "g: output 1: is a list, which no leaf is");
}

TEST(CheckGraph, HoldsCallsAgainstTheirSchemas) {
  EXPECT_EQ(error_of_call("aten::relu", {}),
            "g: call 0, aten::relu: has 0 arguments, and the op takes 1");
  EXPECT_EQ(error_of_call("aten::relu", {{Value{0}}}, {}),
            "g: call 0, aten::relu: has 0 results, and the op gives 1");
  const auto add = [](Argument other, Argument alpha) {
    return error_of_call("aten::add.Tensor", {{Value{0}}, other, alpha});
  };
  EXPECT_EQ(add({WrappedNumber{{{2.5}}}}, {1.5}), "");
  EXPECT_EQ(add({WrappedNumber{{{ExpressionRef{0}}}}}, {ExpressionRef{0}}), "");
  EXPECT_EQ(add({int64_t{1}}, {int64_t{1}}),
            "g: call 0, aten::add.Tensor, argument other: is an int, and the "
            "op takes Tensor");
  EXPECT_EQ(add({}, {int64_t{1}}),
            "g: call 0, aten::add.Tensor, argument other: is nothing, and the "
            "op takes Tensor");
  EXPECT_EQ(add({Value{1}}, {Value{1}}),
            "g: call 0, aten::add.Tensor, argument alpha: is a value, and the "
            "op takes Scalar");
  EXPECT_EQ(add({WrappedNumber{{{Value{0}}}}}, {int64_t{1}}),
            "g: call 0, aten::add.Tensor, argument other: wraps something that "
            "is no number");
  EXPECT_EQ(add({WrappedNumber{}}, {int64_t{1}}),
            "g: call 0, aten::add.Tensor, argument other: wraps something that "
            "is no number");
  EXPECT_EQ(add({WrappedNumber{{{ExpressionRef{5}}}}}, {int64_t{1}}),
            "g: call 0, aten::add.Tensor, argument other: is expression $5 of "
            "1");
  EXPECT_EQ(error_of_call("aten::add_.Tensor",
                          {{WrappedNumber{{{2.5}}}}, {Value{1}}, {int64_t{1}}}),
            "g: call 0, aten::add_.Tensor, argument self: is a wrapped number, "
            "and the op writes to it");
  const auto zeros = [](Argument size, Argument dtype, Argument layout,
                        Argument device, Argument pin) {
    return error_of_call("aten::zeros", {size, dtype, layout, device, pin});
  };
  const Argument size = {ArgumentList{{int64_t{2}}, {ExpressionRef{0}}}};
  EXPECT_EQ(zeros(size, {}, {}, {}, {}), "");
  EXPECT_EQ(
      zeros(size, {int64_t{6}}, {int64_t{0}}, {c10::Device("cpu")}, {false}),
      "");
  EXPECT_EQ(zeros({int64_t{2}}, {}, {}, {}, {}),
            "g: call 0, aten::zeros, argument size: is an int, and the op "
            "takes SymInt[]");
  EXPECT_EQ(zeros({ArgumentList{{2.0}}}, {}, {}, {}, {}),
            "g: call 0, aten::zeros, argument size: is a list, and the op "
            "takes SymInt[]");
  EXPECT_EQ(zeros({ArgumentList{size}}, {}, {}, {}, {}),
            "g: call 0, aten::zeros, argument size: is a list, and the op "
            "takes SymInt[]");
  EXPECT_EQ(zeros(size, {int64_t{1000}}, {}, {}, {}),
            "g: call 0, aten::zeros, argument dtype: is an int, and the op "
            "takes ScalarType?");
  EXPECT_EQ(zeros(size, {ExpressionRef{0}}, {}, {}, {}),
            "g: call 0, aten::zeros, argument dtype: is an expression, and the "
            "op takes ScalarType?");
  EXPECT_EQ(zeros(size, {}, {int64_t{-1}}, {}, {}),
            "g: call 0, aten::zeros, argument layout: is an int, and the op "
            "takes Layout?");
  EXPECT_EQ(zeros(size, {}, {}, {c10::Device("cuda")}, {}),
            "g: call 0, aten::zeros, argument device: is on cuda, and the "
            "graph on cpu; it may be there, on cpu or on meta");
  EXPECT_EQ(zeros(size, {}, {}, {std::string("cpu")}, {}),
            "g: call 0, aten::zeros, argument device: is a string, and the op "
            "takes Device?");
  EXPECT_EQ(zeros(size, {}, {}, {}, {int64_t{0}}),
            "g: call 0, aten::zeros, argument pin_memory: is an int, and the "
            "op takes bool?");
}

TEST(CheckGraph, KnowsEveryTypeThatAnOpMayDeclare) {
  const Argument value = {Value{0}};
  const auto list = [](auto... items) {
    return Argument{ArgumentList{Argument{items}...}};
  };
  EXPECT_EQ(
      error_of_call("aten::cat", {list(Value{0}, Value{1}), {int64_t{0}}}), "");
  EXPECT_EQ(error_of_call("aten::cat", {list(Value{0}, WrappedNumber{{{2.5}}}),
                                        {int64_t{0}}}),
            "g: call 0, aten::cat, argument tensors: is a list, and the op "
            "takes Tensor[]");
  EXPECT_EQ(error_of_call("aten::index.Tensor",
                          {value, list(std::monostate(), Value{1})}),
            "");
  EXPECT_EQ(error_of_call("aten::index.Tensor", {value, list(int64_t{1})}),
            "g: call 0, aten::index.Tensor, argument indices: is a list, and "
            "the op takes Tensor?[]");
  EXPECT_EQ(error_of_call("aten::gelu", {value, {std::string("none")}}), "");
  EXPECT_EQ(error_of_call("aten::layer_norm",
                          {value, list(int64_t{8}), {}, {}, {1e-5}, {true}}),
            "");
  EXPECT_EQ(
      error_of_call("aten::layer_norm",
                    {value, list(int64_t{8}), {}, {}, {int64_t{0}}, {true}}),
      "g: call 0, aten::layer_norm, argument eps: is an int, and the op takes "
      "float");
  EXPECT_EQ(error_of_call("aten::bernoulli", {value, {}}), "");
  EXPECT_EQ(error_of_call("aten::bernoulli", {value, {int64_t{1}}}),
            "g: call 0, aten::bernoulli, argument generator: is an int, and "
            "the op takes Generator?");
  EXPECT_EQ(error_of_call("aten::upsample_nearest2d.vec",
                          {value, {}, list(2.0, 2.0)}),
            "");
  EXPECT_EQ(error_of_call("aten::upsample_nearest2d.vec",
                          {value, {}, list(FloatInput{0})}),
            "g: call 0, aten::upsample_nearest2d.vec, argument scale_factors: "
            "is a list, and the op takes float[]?");
  EXPECT_EQ(
      error_of_call("aten::_foreach_mul.ScalarList",
                    {list(Value{0}), list(2.5)}, {std::vector<Value>{{2}}}),
      "");
  EXPECT_EQ(error_of_call("aten::_foreach_mul.ScalarList",
                          {list(Value{0}), list(ExpressionRef{0})},
                          {std::vector<Value>{{2}}}),
            "g: call 0, aten::_foreach_mul.ScalarList, argument scalars: is a "
            "list, and the op takes Scalar[]");
  EXPECT_EQ(error_of_call("aten::clone", {value, {int64_t{4}}}),
            "g: call 0, aten::clone, argument memory_format: is an int, and "
            "the op takes MemoryFormat?");
  EXPECT_EQ(error_of_call("aten::set_.source_Storage", {value, {}}),
            "g: call 0, aten::set_.source_Storage, argument source: is "
            "nothing, and the op takes Storage");
}

TEST(CheckGraph, WantsListsOfTheDeclaredLength) {
  const auto pool = [](size_t stride) {
    const auto ints = [](size_t n) {
      return Argument{ArgumentList(n, Argument{int64_t{1}})};
    };
    return error_of_call(
        "aten::max_pool2d",
        {{Value{0}}, ints(2), ints(stride), ints(1), ints(2), {false}});
  };
  EXPECT_EQ(pool(0), "");  // the default
  EXPECT_EQ(pool(1), "");
  EXPECT_EQ(pool(2), "");
  EXPECT_EQ(pool(3),
            "g: call 0, aten::max_pool2d, argument stride: has 3 items, and "
            "the op takes 2");
}

TEST(CheckGraph, HoldsResultsAgainstTheirSchemas) {
  const Argument value = {Value{0}};
  EXPECT_EQ(error_of_call("aten::is_nonzero", {value}, {Guard{{true}}}), "");
  EXPECT_EQ(error_of_call("aten::is_nonzero", {value}, {std::monostate()}), "");
  EXPECT_EQ(error_of_call("aten::is_nonzero", {value}, {Guard{{int64_t{1}}}}),
            "g: call 0, aten::is_nonzero, result 0: does not fit the bool that "
            "the op gives");
  EXPECT_EQ(error_of_call("aten::is_nonzero", {value}),
            "g: call 0, aten::is_nonzero, result 0: does not fit the bool that "
            "the op gives");
  EXPECT_EQ(error_of_call("aten::item", {value}, {Guard{{ExpressionRef{0}}}}),
            "");
  EXPECT_EQ(error_of_call("aten::item", {value}, {Guard{{ExpressionRef{1}}}}),
            "g: call 0, aten::item, result 0: is expression $1 of 1");
  EXPECT_EQ(error_of_call("aten::item", {value}, {Guard{{1.5}}}),
            "g: call 0, aten::item, result 0: does not fit the Scalar that the "
            "op gives");
  EXPECT_EQ(error_of_call("aten::relu", {value}, {Guard{{true}}}),
            "g: call 0, aten::relu, result 0: does not fit the Tensor that the "
            "op gives");
  EXPECT_EQ(error_of_call("aten::chunk", {value, {int64_t{2}}, {int64_t{0}}}),
            "g: call 0, aten::chunk, result 0: does not fit the Tensor[] that "
            "the op gives");
  EXPECT_EQ(error_of_call("aten::q_scale", {value}, {std::monostate()}), "");
  EXPECT_EQ(error_of_call("aten::q_scale", {value}, {Guard{{int64_t{1}}}}),
            "g: call 0, aten::q_scale, result 0: does not fit the float that "
            "the op gives");
  EXPECT_EQ(error_of_call("aten::qscheme", {value}, {std::monostate()}),
            "g: call 0, aten::qscheme, result 0: does not fit the QScheme that "
            "the op gives");
}

TEST(CheckGraph, RefusesOpsThatNobodyAllows) {
  EXPECT_EQ(error_of_call("prim::Print", {}, {}),
            "g: call 0, prim::Print: is in none of the namespaces that a graph "
            "may call; if you trust the file, add \"prim\" to "
            "LoadOptions::namespaces");
  EXPECT_EQ(error_of_call("profiler::_record_function_enter", {}, {}),
            "g: call 0, profiler::_record_function_enter: is in none of the "
            "namespaces that a graph may call; if you trust the file, add "
            "\"profiler\" to LoadOptions::namespaces");
  EXPECT_EQ(error_of_call("relu", {}, {}),
            "g: call 0, relu: is in none of the namespaces that a graph may "
            "call; if you trust the file, add \"relu\" to "
            "LoadOptions::namespaces");
  EXPECT_EQ(error_of_call("aten::nothing", {}, {}),
            "g: call 0, aten::nothing: this process has no such op; load the "
            "library that registers it");
  EXPECT_EQ(error_of_call("aten::from_file.out", {}, {}),
            "g: call 0, aten::from_file.out: opens a file; if you trust the "
            "file, add \"aten::from_file\" to LoadOptions::namespaces");
  EXPECT_EQ(error_of_call("aten::_reshape_alias", {}, {}),
            "g: call 0, aten::_reshape_alias: is internal to torch, whose "
            "callers check its arguments; if you trust the file, add "
            "\"aten::_reshape_alias\" to LoadOptions::namespaces");
  EXPECT_EQ(error_of_call("aten::gelu_backward", {}, {}),
            "g: call 0, aten::gelu_backward: computes a gradient, which no "
            "forward pass does; if you trust the file, add "
            "\"aten::gelu_backward\" to LoadOptions::namespaces");
}

/// A graph never has such an op, whatever its arguments are.
TEST(CheckGraph, RefusesOpsThatAreNotForGraphs) {
  const std::vector<std::string>& namespaces = default_namespaces();
  for (const char* op :
       {"aten::from_file", "aten::set_data", "aten::_print",
        "aten::_reshape_alias", "aten::_index_put_impl_",
        "aten::segment_reduce", "aten::fbgemm_pack_gemm_matrix_fp16",
        "aten::cudnn_convolution", "aten::mkldnn_rnn_layer",
        "aten::linalg_lu_solve", "aten::to_mkldnn",
        "aten::_sparse_coo_tensor_unsafe",
        "aten::_cufft_set_plan_cache_max_size",
        "aten::embedding_dense_backward",
        "aten::_upsample_bicubic2d_aa_backward", "mkldnn::data_ptr",
        "prim::Print", "quantized::linear"}) {
    EXPECT_NE(why_not_callable(op, namespaces), "") << op;
  }
  for (const char* op :
       {"aten::add.Tensor", "aten::__and__.Tensor", "aten::batch_norm",
        "aten::_upsample_bicubic2d_aa", "aten::_foreach_mul_.Scalar",
        "aten::conv_transpose2d.input", "aten::empty.memory_format",
        "aten::as_strided", "aten::lstm.input", "colonnade::linear",
        "mkldnn::_linear_pointwise"}) {
    EXPECT_EQ(why_not_callable(op, namespaces), "") << op;
  }
}

TEST(CheckGraph, AllowsWhatTheCallerLists) {
  const std::vector<Argument> reshape = {
      {Value{0}}, {ArgumentList{}}, {ArgumentList{}}};
  EXPECT_EQ(error_of_call("aten::_reshape_alias", reshape, {Value{2}},
                          {"aten::_reshape_alias"}),
            "");
  EXPECT_EQ(error_of_call("onednn::linear_dynamic_fp16",
                          {{Value{0}}, {Value{1}}, {}}, {Value{2}}, {"onednn"}),
            "");
}

}  // namespace
}  // namespace colonnade::trace::detail
