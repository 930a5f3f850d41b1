// tests/trace/some_graphs.h
#pragma once

#include "colonnade/trace/graph.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace colonnade::testing {

/// y = (x + bias).view({(3 * s0 - 1) /^ 4 /^ degree, -1}), and that size.
inline trace::Graph small_graph() {
  using namespace trace;  // NOLINT: names of the graph's parts
  Graph graph;
  graph.degree = 2;
  graph.variables = {{"degree", 2}, {"s0", 6}};
  Expression expression;
  expression.terms = {{3, {1}}, {-1, {}}};
  expression.divisor = 4;
  expression.over_degree = true;
  expression.rounding = Expression::Rounding::kCeil;
  graph.expressions = {expression};
  using Kind = Structure::Kind;
  graph.input_structure = {
      Kind::kTuple,
      {{}, {Kind::kDict, {{Kind::kNone, {}, {}}}, {{std::string("mask")}}}},
      {}};
  graph.inputs = {{Input::Kind::kTensor,
                   "input 0",
                   0,
                   at::kFloat,
                   {{6, 1}, {8, -1}},
                   -1,
                   {}}};
  graph.weights = {{Weight::Kind::kParameter, "up.bias", {"down.bias"}, 1}};
  graph.values = {{at::kFloat, {6, 8}, 192},
                  {at::kFloat, {8}, 32},
                  {at::kFloat, {6, 8}, 192},
                  {at::kFloat, {48}, 192}};
  graph.nodes = {
      {"aten::add.Tensor", {{Value{0}}, {Value{1}}, {int64_t{1}}}, {Value{2}}},
      {"aten::view",
       {{Value{2}}, {ArgumentList{{ExpressionRef{0}}, {int64_t{-1}}}}},
       {Value{3}}}};
  graph.output_structure = {Kind::kList, {{}, {}}, {}};
  graph.outputs = {{Value{3}}, {ExpressionRef{0}}};
  return graph;
}

/// `text` with the first `what` replaced; a failure where there is none.
inline std::string replaced(std::string text, const std::string& what,
                            const std::string& by) {
  const size_t at = text.find(what);
  if (at == std::string::npos) {
    ADD_FAILURE() << "there is no " << what;
    return text;
  }
  return text.replace(at, what.size(), by);
}

}  // namespace colonnade::testing
