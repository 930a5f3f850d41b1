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
TEST(GraphSummary, SaysWhatGoesInAndOutAndForWhichDegrees) {
  trace::Graph graph = layered_graph(2);
  const std::string text = summary(graph, graph);
  for (const char* part :
       {"calls    10; ops: 6; collectives: 1\n",
        "input 0: int64 [1, s0], any s0 (5 in the example)\n",
        "output   float32 [1, 5, 16] in the example\n",
        "degree   2, or any other\n", "weights  4, 400 B a rank\n"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, testing::Not(HasSubstr("states")));

  graph.fixed = "it asks for its rank";
  trace::Graph runs = graph;
  runs.nodes.pop_back();
  EXPECT_THAT(
      summary(graph, runs),
      testing::AllOf(HasSubstr("degree   2 only: it asks for its rank"),
                     HasSubstr("as run   9; ops: 5; collectives: 0; once: 0")));
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
