// tests/cli/layered_graph.cpp
#include "tests/cli/layered_graph.h"

#include <string>
#include <utility>
#include <vector>

namespace colonnade::cli {
namespace {

using trace::Argument;
using trace::Graph;
using trace::Value;
using trace::Weight;

class Builder {
 public:
  int value(std::vector<int64_t> shape, at::ScalarType dtype = at::kFloat) {
    int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype));
    for (const int64_t size : shape) {
      bytes *= size;
    }
    graph.values.push_back({dtype, std::move(shape), bytes});
    return static_cast<int>(graph.values.size()) - 1;
  }
  int weight(const std::string& name, std::vector<int64_t> shape) {
    const int id = value(std::move(shape));
    graph.weights.push_back({.kind = Weight::Kind::kParameter,
                             .name = name,
                             .aliases = {},
                             .value = id});
    return id;
  }
  int call(const std::string& op, std::vector<Argument> arguments,
           std::vector<int64_t> shape) {
    const int id = value(std::move(shape));
    graph.nodes.push_back({op, std::move(arguments), {Value{id}}});
    return id;
  }

  Graph graph;
};

Argument of(int value) {
  return {Value{value}};
}

}  // namespace

Graph layered_graph(int layers) {
  Builder make;
  make.graph.degree = 2;
  make.graph.variables = {{"degree", 2}, {"s0", 5}};
  const int ids = make.value({1, 5}, at::kLong);
  make.graph.inputs.push_back({.kind = trace::Input::Kind::kTensor,
                               .name = "input 0",
                               .value = ids,
                               .dtype = at::kLong,
                               .dims = {{1, -1}, {5, 1}},
                               .constant = {}});
  int x =
      make.call("aten::embedding",
                {of(make.weight("embed.weight", {9, 4})), of(ids)}, {1, 5, 4});
  for (int layer = 0; layer < layers; ++layer) {
    const int matrix =
        make.weight("layers." + std::to_string(layer) + ".weight", {4, 4});
    int y = make.call("aten::rms_norm", {of(x), {trace::ArgumentList{}}},
                      {1, 5, 4});
    y = make.call("colonnade::linear", {of(y), of(matrix), {}}, {1, 5, 4});
    y = make.call("aten::silu", {of(y)}, {1, 5, 4});
    x = make.call("aten::add.Tensor", {of(x), of(y), {int64_t{1}}}, {1, 5, 4});
  }
  x = make.call("colonnade::column_parallel_linear",
                {of(x),
                 of(make.weight("head.weight", {8, 4})),
                 {},
                 {true},
                 {false},
                 {int64_t{1}},
                 {int64_t{16}},
                 {trace::ArgumentList{}},
                 {},
                 {std::string("tp")}},
                {1, 5, 16});
  make.graph.outputs = {of(x)};
  return std::move(make.graph);
}

}  // namespace colonnade::cli
