// tests/cli/graph_layout_test.cpp
#include "cli/graph_layout.h"

#include "cli/graph_picture.h"
#include "tests/cli/layered_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(GraphLayout, LayersOfTheSameCallsAreOneSection) {
  const auto sections = sections_of(layered_graph(3));
  ASSERT_EQ(sections.size(), 3U);
  EXPECT_EQ(sections[0].name, "");
  EXPECT_EQ(sections[0].count, 1U);
  // From the norm, which has no weight of its own here, to the addition.
  EXPECT_EQ(sections[1].name, "layers.0");
  EXPECT_EQ(sections[1].last_name, "layers.2");
  EXPECT_EQ(sections[1].first, 1U);
  EXPECT_EQ(sections[1].count, 4U);
  EXPECT_EQ(sections[1].repeats, 3U);
  EXPECT_EQ(sections[2].name, "");
  EXPECT_EQ(sections[2].first, 13U);
  EXPECT_EQ(sections[2].count, 1U);
}

TEST(GraphLayout, AnOddLayerIsASectionOfItsOwn) {
  trace::Graph graph = layered_graph(4);
  graph.nodes[1 + 4 * 2 + 2].op = "aten::sigmoid";  // of layer 2
  const auto sections = sections_of(graph);
  std::vector<std::string> names;
  for (const GraphSection& section : sections) {
    names.push_back(section.name + " to " + section.last_name);
  }
  EXPECT_THAT(
      names, ElementsAre(" to ", "layers.0 to layers.1", "layers.2 to layers.2",
                         "layers.3 to layers.3", " to "));
}

TEST(GraphLayout, RowsFollowFromOthersAndHaveALaneAsLongAsTheyAreTaken) {
  const GraphLayout layout = layout_of(layered_graph(3));
  // The input, the embedding, one layer, the head, the output.
  ASSERT_EQ(layout.rows.size(), 1U + 1U + 4U + 1U + 1U);
  const auto sources = [&](size_t row) { return layout.rows[row].sources; };
  EXPECT_THAT(sources(1), ElementsAre(0));     // embedding of the input
  EXPECT_THAT(sources(2), ElementsAre(1));     // norm
  EXPECT_THAT(sources(3), ElementsAre(2));     // linear
  EXPECT_THAT(sources(4), ElementsAre(3));     // silu
  EXPECT_THAT(sources(5), ElementsAre(1, 4));  // x + …
  EXPECT_THAT(sources(6), ElementsAre(5));     // head, of the last layer
  EXPECT_THAT(sources(7), ElementsAre(6));
  // What goes past the layer keeps its lane; the layer goes beside it.
  std::vector<int> lanes;
  for (const GraphRow& row : layout.rows) {
    lanes.push_back(row.lane);
  }
  EXPECT_THAT(lanes, ElementsAre(0, 0, 1, 1, 1, 0, 0, 0));
  EXPECT_EQ(layout.lanes, 2);
}

TEST(GraphPicture, ShowsLayersOnceAndEscapesNames) {
  trace::Graph graph = layered_graph(12);
  const std::string svg = draw_as_svg(graph, "a<b");
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns="));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("a&lt;b"));
  EXPECT_THAT(svg, Not(HasSubstr("a<b")));
  EXPECT_THAT(svg, HasSubstr("layers.0 \u2026 layers.11"));
  EXPECT_THAT(svg, HasSubstr("12 \u00d7 4 calls"));
  EXPECT_THAT(svg, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(svg, Not(HasSubstr("time in a pass")));
  EXPECT_LT(svg.size(), 10'000U);

  const std::vector<double> seconds(graph.nodes.size(), 1e-3);
  EXPECT_THAT(draw_as_svg(graph, "a", seconds),
              HasSubstr(">12.0 ms<"));  // of twelve layers
}

}  // namespace
}  // namespace colonnade::cli
