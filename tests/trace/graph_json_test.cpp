// tests/trace/graph_json_test.cpp
#include "colonnade/trace/detail/graph_json.h"

#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"
#include "tests/trace/some_graphs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace colonnade::trace::detail {
namespace {

using ::testing::HasSubstr;
using testing::replaced;
using testing::small_graph;
using ::testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

constexpr const char* kSmallText = R"json({"format":"colonnade graph",
"version":1,
"degree":2,
"fixed":null,
"random":false,
"device":"cpu",
"ops":{
"aten::add.Tensor":"aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
"aten::view":"aten::view(Tensor(a) self, SymInt[] size) -> Tensor(a)"},
"variables":[
{"name":"degree","example":2},
{"name":"s0","example":6}],
"expressions":{
"$0":{"terms":[{"factor":3,"variables":[1]},{"factor":-1,"variables":[]}],"divisor":4,"over_degree":true,"rounding":"ceil"}},
"input_structure":{"tuple":["leaf",{"dict":[["mask",null]]}]},
"inputs":[
{"name":"input 0","kind":"tensor","value":"%0","dtype":"Float","dims":[{"size":6,"variable":1},8]}],
"weights":[
{"kind":"parameter","name":"up.bias","value":"%1","aliases":["down.bias"]}],
"values":{
"%0":{"dtype":"Float","shape":[6,8],"bytes":192},
"%1":{"dtype":"Float","shape":[8],"bytes":32},
"%2":{"dtype":"Float","shape":[6,8],"bytes":192},
"%3":{"dtype":"Float","shape":[48],"bytes":192}},
"nodes":[
{"op":"aten::add.Tensor","arguments":["%0","%1",1],"results":["%2"]},
{"op":"aten::view","arguments":["%2",["$0",-1]],"results":["%3"]}],
"output_structure":{"list":["leaf","leaf"]},
"outputs":["%3","$0"]}
)json";

/// A graph with one call, of these arguments.
Graph graph_of(std::vector<Argument> arguments) {
  Graph graph;
  graph.nodes = {{"aten::relu", std::move(arguments), {}}};
  return graph;
}

/// The line of the first call in the file.
std::string call_line(const Graph& graph) {
  const std::string text = to_json(graph);
  const size_t begin = text.find("{\"op\"");
  return text.substr(begin, text.find('\n', begin) - begin);
}

TEST(GraphJson, IsThisText) {
  EXPECT_EQ(to_json(small_graph()), kSmallText);
}

TEST(GraphJson, ComesBackAsItWas) {
  Graph graph = small_graph();
  graph.fixed = "at degree 4: call 3: \"quoted\"\nand in two lines, naïvely";
  graph.is_random = true;
  graph.device = at::kCUDA;
  graph.inputs.push_back({Input::Kind::kInt, "input 1", -1, {}, {}, 1, {7}});
  graph.inputs.push_back({Input::Kind::kFloat, "input 2", -1, {}, {}, -1, {}});
  graph.inputs.push_back(
      {Input::Kind::kFloat, "input 3", -1, {}, {}, -1, {0.1}});
  graph.inputs.push_back(
      {Input::Kind::kBool, "input 4", -1, {}, {}, -1, {true}});
  graph.inputs.push_back(
      {Input::Kind::kString, "input 5", -1, {}, {}, -1, {std::string("%0")}});
  graph.weights.push_back({Weight::Kind::kBuffer, "b", {}, 4});
  graph.weights.push_back({Weight::Kind::kConstant, "constant0", {}, 5});
  graph.weights.push_back({Weight::Kind::kState, "cache", {}, 6});
  graph.values.push_back({at::kComplexDouble, {}, 16});
  graph.values.push_back({at::kFloat8_e4m3fn, {0, 3}, 0});
  graph.values.push_back({at::kQInt8, {2}, 2});
  graph.nodes[0].results = {std::monostate(),
                            Value{4},
                            std::vector<Value>{{5}, {-1}},
                            Guard{{true}},
                            Guard{{int64_t{-3}}},
                            Guard{{ExpressionRef{0}}}};
  graph.output_structure = {
      Structure::Kind::kDict,
      {{}, {Structure::Kind::kNone, {}, {}}, {Structure::Kind::kTuple, {}, {}}},
      {{int64_t{5}}, {int64_t{-6}}, {int64_t{7}}}};
  const std::string text = to_json(graph);
  const Graph again = graph_from_json(text, "graph.json");
  EXPECT_EQ(to_json(again), text);
  EXPECT_EQ(again.fixed, graph.fixed);
  EXPECT_EQ(again.is_random, graph.is_random);
  EXPECT_EQ(again.device, graph.device);
  EXPECT_EQ(again.variables, graph.variables);
  EXPECT_EQ(again.expressions, graph.expressions);
  EXPECT_EQ(again.input_structure, graph.input_structure);
  EXPECT_EQ(again.output_structure, graph.output_structure);
  EXPECT_EQ(again.outputs, graph.outputs);
  EXPECT_EQ(again.nodes[0].results, graph.nodes[0].results);
  EXPECT_EQ(again.nodes[1].arguments, graph.nodes[1].arguments);
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    EXPECT_EQ(again.inputs[i].kind, graph.inputs[i].kind);
    EXPECT_EQ(again.inputs[i].dims, graph.inputs[i].dims);
    EXPECT_EQ(again.inputs[i].variable, graph.inputs[i].variable);
    EXPECT_EQ(again.inputs[i].constant, graph.inputs[i].constant);
  }
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    EXPECT_EQ(again.weights[i].kind, graph.weights[i].kind);
    EXPECT_EQ(again.weights[i].aliases, graph.weights[i].aliases);
  }
  for (size_t i = 0; i < graph.values.size(); ++i) {
    EXPECT_EQ(again.values[i].dtype, graph.values[i].dtype);
    EXPECT_EQ(again.values[i].example_shape, graph.values[i].example_shape);
  }
}

TEST(GraphJson, TellsArgumentsApart) {
  const std::vector<std::pair<Argument, std::string>> cases = {
      {{}, "null"},
      {{Value{12}}, "\"%12\""},
      {{ExpressionRef{3}}, "\"$3\""},
      {{FloatInput{1}}, R"({"input":1})"},
      {{WrappedNumber{{{2.5}}}}, R"({"number":2.5})"},
      {{WrappedNumber{{{ExpressionRef{1}}}}}, R"({"number":"$1"})"},
      {{true}, "true"},
      {{int64_t{1}}, "1"},
      {{std::numeric_limits<int64_t>::min()}, "-9223372036854775808"},
      {{std::numeric_limits<int64_t>::max()}, "9223372036854775807"},
      {{1.0}, "1.0"},
      {{-0.0}, "-0.0"},
      {{0.1}, "0.1"},
      {{1e300}, "1e+300"},
      {{5e-324}, "5e-324"},
      {{kInf}, R"({"float":"inf"})"},
      {{-kInf}, R"({"float":"-inf"})"},
      {{c10::complex<double>(1, -kInf)},
       R"({"complex":[1.0,{"float":"-inf"}]})"},
      {{std::string("%1")}, R"({"string":"%1"})"},
      {{c10::Device("cuda:1")}, R"({"device":"cuda:1"})"},
      {{ArgumentList{}}, "[]"},
      {{ArgumentList{{int64_t{2}}, {}, {ArgumentList{{false}}}}},
       "[2,null,[false]]"},
  };
  for (const auto& [argument, text] : cases) {
    const Graph graph = graph_of({argument});
    EXPECT_EQ(call_line(graph), concat(R"({"op":"aten::relu","arguments":[)",
                                       text, "],\"results\":[]}],"));
    const Graph again = graph_from_json(to_json(graph), "graph.json");
    EXPECT_EQ(again.nodes[0].arguments[0], argument) << text;
  }
  const Graph graph = graph_of({{kNan}, {-0.0}});
  const Graph again = graph_from_json(to_json(graph), "graph.json");
  EXPECT_TRUE(std::isnan(again.nodes[0].arguments[0].as<double>()));
  EXPECT_TRUE(std::signbit(again.nodes[0].arguments[1].as<double>()));
}

TEST(GraphJson, RefusesToWriteWhatItCouldNotRead) {
  EXPECT_EQ(error_of<InvalidArgument>([] {
              Graph graph;
              graph.nodes = {{"mine::op", {}, {}}};
              to_json(graph);
            }),
            "trace: this process has no op mine::op; load the library that "
            "registers it");
  EXPECT_THAT(error_of<InvalidArgument>(
                  [] { to_json(graph_of({{std::string("\xff")}})); }),
              StartsWith("trace: the graph has a string that a file cannot "
                         "hold: "));
}

/// What reading says to the small graph's text with one piece replaced.
std::string error_with(const std::string& what, const std::string& by) {
  return error_of<CheckpointError>([&] {
    graph_from_json(replaced(to_json(small_graph()), what, by), "graph.json");
  });
}

TEST(GraphJson, NamesThePlaceOfAMistake) {
  EXPECT_EQ(error_with("colonnade graph", "other"),
            "graph.json: is not a graph of this library");
  EXPECT_EQ(error_with("\"version\":1", "\"version\":2"),
            "graph.json: has version 2 of the format; this library reads "
            "version 1");
  EXPECT_EQ(error_with("\"random\":false,", ""),
            "graph.json: has no \"random\"");
  EXPECT_EQ(error_with("\"random\":false", "\"random\":0"),
            "graph.json: has 0, not a boolean");
  EXPECT_EQ(error_with("\"degree\":2", "\"degree\":2.0"),
            "graph.json: has 2.0, not an integer of 64 bits");
  EXPECT_EQ(error_with("\"degree\":2", "\"degree\":9223372036854775808"),
            "graph.json: has 9223372036854775808, not an integer of 64 bits");
  EXPECT_EQ(error_with("\"cpu\"", "\"toaster\""),
            "graph.json: has a device \"toaster\", which this torch lacks");
  EXPECT_EQ(error_with("[\"mask\",null]", "[\"mask\"]"),
            "graph.json: has an entry of a dict of 1 parts, not of a key and "
            "a structure");
  EXPECT_EQ(error_with("{\"list\":[\"leaf\",\"leaf\"]}", "{\"set\":[]}"),
            "graph.json: has a kind \"set\", which is not known");
  EXPECT_EQ(error_with("\"kind\":\"tensor\"", "\"kind\":\"storage\""),
            "graph.json: input 0: has a kind \"storage\", which is not known");
  EXPECT_EQ(error_with("\"kind\":\"parameter\"", "\"kind\":\"weight\""),
            "graph.json: weight 0: has a kind \"weight\", which is not known");
  EXPECT_EQ(
      error_with("\"%0\":{\"dtype\":\"Float\"", "\"%0\":{\"dtype\":\"F\""),
      "graph.json: value %0: has a dtype \"F\", which this torch lacks");
  EXPECT_EQ(error_with("\"%2\":{\"dtype\"", "\"%7\":{\"dtype\""),
            "graph.json: values: has no \"%2\"");
  EXPECT_EQ(error_with("\"$0\":", "\"$1\":"),
            "graph.json: expressions: has no \"$0\"");
  EXPECT_EQ(error_with("\"variables\":[1]", "\"variables\":[-1]"),
            "graph.json: expression $0: has an index -1 that is out of range");
  EXPECT_EQ(error_with("[\"%0\",\"%1\",1]", "[\"%0\",\"%01\",1]"),
            "graph.json: call 0: has \"%01\" in place of a reference such as "
            "\"%3\"");
  EXPECT_EQ(error_with("[\"%0\",\"%1\",1]", "[\"%0\",{\"values\":1},1]"),
            "graph.json: call 0: has an argument of the kind \"values\", which "
            "is not known");
  EXPECT_EQ(error_with("[\"%0\",\"%1\",1]", "[\"%0\",{},1]"),
            "graph.json: call 0: has {} in place of an argument");
  EXPECT_EQ(error_with("\"results\":[\"%3\"]", "\"results\":[3]"),
            "graph.json: call 1: has 3, not a string");
  EXPECT_EQ(error_with("\"results\":[\"%3\"]", "\"results\":[\"$3\"]"),
            "graph.json: call 1: has \"$3\" in place of a reference such as "
            "\"%3\"");
}

TEST(GraphJson, RefusesWhatIsNoJson) {
  EXPECT_THAT(error_with("\"degree\":2", "\"degree\":"),
              StartsWith("graph.json: is not JSON: "));
  EXPECT_THAT(error_with("colonnade graph", "\xff"),
              StartsWith("graph.json: is not JSON: "));
  EXPECT_EQ(error_of<CheckpointError>([] { graph_from_json("3", "g"); }),
            "g: is not a graph of this library");
  EXPECT_THAT(error_of<CheckpointError>([] { graph_from_json("", "g"); }),
              StartsWith("g: is not JSON: "));
}

TEST(GraphJson, RefusesDeepNestingAndLongTexts) {
  constexpr size_t kDepth = 100'000;
  const std::string open(kDepth, '[');
  EXPECT_EQ(error_of<CheckpointError>([&] { graph_from_json(open, "g"); }),
            "g: is nested more than 128 deep");
  EXPECT_EQ(error_of<CheckpointError>(
                [&] { graph_from_json(open + std::string(kDepth, ']'), "g"); }),
            "g: is nested more than 128 deep");
  std::string objects;
  for (size_t i = 0; i < kDepth; ++i) {
    objects += "{\"tuple\":";
  }
  EXPECT_EQ(error_with("{\"tuple\":", objects),
            "graph.json: is nested more than 128 deep");
  EXPECT_EQ(error_of<CheckpointError>([] {
              graph_from_json(std::string(kMaxJsonBytes + 1, ' '), "g");
            }),
            "g: has 33554433 bytes; a graph has at most 33554432");
}

TEST(GraphJson, RefusesLongListsAndStrings) {
  EXPECT_EQ(error_with("up.bias", std::string(70'000, 'x')),
            "graph.json: weight 0: has a string of 70000 bytes; there are at "
            "most 65536");
  std::string list = "[0";
  for (int i = 0; i < (1 << 20); ++i) {
    list += ",0";
  }
  EXPECT_EQ(error_with("[6,8]", list + "]"),
            "graph.json: value %0: has a list of 1048577; there are at most "
            "1048576 in one");
}

TEST(GraphJson, NamesAllOpsThatDiffer) {
  std::string text = to_json(small_graph());
  text = replaced(text, "Scalar alpha=1", "Scalar alpha=2");
  text = replaced(text, "aten::view(Tensor(a) self, SymInt[] size)",
                  "aten::view(Tensor(a) self, int[] size)");
  EXPECT_EQ(
      error_of<CheckpointError>([&] { graph_from_json(text, "graph.json"); }),
      "graph.json: was written by another torch or other libraries of ops; "
      "load it with those, or trace the model again. 2 ops differ:\n"
      "  aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=2) -> "
      "Tensor in the file, aten::add.Tensor(Tensor self, Tensor other, *, "
      "Scalar alpha=1) -> Tensor in this process\n"
      "  aten::view(Tensor(a) self, int[] size) -> Tensor(a) in the file, "
      "aten::view(Tensor(a) self, SymInt[] size) -> Tensor(a) in this "
      "process");
  EXPECT_THAT(
      error_of<CheckpointError>([&] {
        graph_from_json(
            replaced(replaced(to_json(small_graph()), "\"aten::view\"",
                              "\"mine::view\""),
                     "\"op\":\"aten::view\"", "\"op\":\"mine::view\""),
            "graph.json");
      }),
      HasSubstr("\n  aten::view(Tensor(a) self, SymInt[] size) -> Tensor(a) "
                "in the file, which this process lacks"));
  EXPECT_EQ(error_with("\"aten::view\":", "\"aten::other\":"),
            "graph.json: has no \"aten::view\"");
}

}  // namespace
}  // namespace colonnade::trace::detail
