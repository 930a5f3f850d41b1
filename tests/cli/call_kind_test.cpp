// tests/cli/call_kind_test.cpp
#include "cli/call_kind.h"

#include "tests/cli/layered_graph.h"

#include <gtest/gtest.h>

#include <string>

namespace colonnade::cli {
namespace {

using trace::Argument;
using trace::Value;

TEST(CallKind, IsToldByTheOpAndWhatItIsGiven) {
  trace::Graph graph = layered_graph(1);
  const auto kind = [&](size_t node) {
    return kind_of(graph, graph.nodes[node]);
  };
  EXPECT_EQ(kind(2), CallKind::kProduct);
  EXPECT_EQ(kind(3), CallKind::kOther);
  EXPECT_EQ(kind(5), CallKind::kCollective);
  graph.nodes[5].arguments[3] = {false};  // gather_output
  EXPECT_EQ(kind(5), CallKind::kProduct);

  const Argument x{Value{0}};
  const Argument group{std::string("tp")};
  EXPECT_EQ(
      kind_of(graph, {"colonnade::reduce_from_tensor_model_parallel_region",
                      {x, group},
                      {}}),
      CallKind::kCollective);
  EXPECT_EQ(kind_of(graph, {"colonnade::copy_to_tensor_model_parallel_region",
                            {x, group},
                            {}}),
            CallKind::kView);
  EXPECT_EQ(
      kind_of(graph,
              {"aten::transpose.int", {x, {int64_t{0}}, {int64_t{1}}}, {}}),
      CallKind::kView);
  // Heads that divide need no exchange.
  const auto heads = [&](int64_t count) {
    return kind_of(graph, {"colonnade::key_value_heads",
                           {x, {int64_t{4}}, {count}, {int64_t{8}}, group},
                           {}});
  };
  EXPECT_EQ(heads(2), CallKind::kView);
  EXPECT_EQ(heads(1), CallKind::kCollective);

  graph.weights.push_back({.kind = trace::Weight::Kind::kState,
                           .name = "length",
                           .aliases = {},
                           .value = 0});
  EXPECT_EQ(kind_of(graph, {"aten::add_.Scalar", {x, {int64_t{1}}}, {}}),
            CallKind::kState);
}

}  // namespace
}  // namespace colonnade::cli
