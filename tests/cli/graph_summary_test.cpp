// tests/cli/graph_summary_test.cpp
#include "cli/graph_summary.h"

#include "tests/cli/layered_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

using testing::HasSubstr;
using trace::Argument;
using trace::Node;
using trace::Value;

TEST(GraphSummary, TellsKindsOfCallsApart) {
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

TEST(GraphSummary, SaysWhatGoesInAndOutAndForWhichDegrees) {
  trace::Graph graph = layered_graph(2);
  const std::string text = summary(graph, graph);
  for (const char* part :
       {"calls    10 of 6 ops; 1 are collectives\n",
        "input 0: int64 [1, s0], any s0 (5 in the example)\n",
        "output   float32 [1, 5, 16] in the example\n",
        "degree   2, or any other\n", "weights  4, 400 B a rank\n"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, testing::Not(HasSubstr("states")));

  graph.fixed = "it asks for its rank";
  trace::Graph runs = graph;
  runs.nodes.pop_back();
  EXPECT_THAT(summary(graph, runs),
              testing::AllOf(HasSubstr("degree   2 only: it asks for its rank"),
                             HasSubstr("as run   9 of 5 ops; 0 are")));
}

TEST(GraphSummary, TableIsByTimeWhereThereIsOneElseByCalls) {
  const trace::Graph graph = layered_graph(2);
  EXPECT_THAT(op_table(graph, {}),
              testing::ContainsRegex("^op +calls +results\n"
                                     "aten::add.Tensor +2 +160 B\n"));
  std::vector<double> seconds(graph.nodes.size(), 1e-6);
  seconds.back() = 15e-6;
  EXPECT_THAT(
      op_table(graph, seconds),
      testing::ContainsRegex("^op +calls +results +time +share\n"
                             "colonnade::column_parallel_linear +1 +320 B +"
                             "15.0 us +62.5%\n"));
  EXPECT_THAT(op_table(graph, seconds),
              testing::ContainsRegex("\ntotal +10 .* 24.0 us +100.0%\n$"));
}

}  // namespace
}  // namespace colonnade::cli
