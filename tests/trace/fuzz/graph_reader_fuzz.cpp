// tests/trace/fuzz/graph_reader_fuzz.cpp
#include "tests/trace/fuzz/graph_reader_fuzz.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/callable_ops.h"
#include "colonnade/trace/detail/check_graph.h"
#include "colonnade/trace/detail/graph_json.h"
#include "colonnade/trace/detail/passes/passes.h"
#include "colonnade/trace/detail/program.h"
#include "tests/trace/fuzz/json_mutator.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace colonnade::testing {
namespace {

/// With weights as the graph says they are, where that is little.
trace::detail::PassFacts facts_of(const trace::Graph& graph) {
  constexpr int64_t kMostBytes = int64_t{1} << 20;
  trace::detail::PassFacts facts;
  facts.degree = graph.degree;
  for (const trace::Weight& weight : graph.weights) {
    const trace::ValueInfo& info =
        graph.values[static_cast<size_t>(weight.value)];
    const bool small = info.example_bytes <= kMostBytes;
    facts.weights.push_back(
        at::empty(small ? info.example_shape : std::vector<int64_t>{0},
                  at::dtype(info.dtype).device(at::kMeta)));
  }
  return facts;
}

}  // namespace

bool use_graph_text(const std::string& text) {
  try {
    const trace::Graph graph = trace::detail::graph_from_json(text, "fuzz");
    trace::detail::check_graph(graph, "fuzz",
                               trace::detail::default_namespaces());
    const std::string printed = to_string(graph);
    const std::string written = trace::detail::to_json(graph);
    const trace::Graph again = trace::detail::graph_from_json(written, "again");
    if (trace::detail::to_json(again) != written ||
        to_string(again) != printed) {
      std::abort();
    }
    const trace::detail::Program program(graph, at::kCPU);
    const trace::detail::Program fast(
        trace::detail::optimize(graph, facts_of(graph)), at::kCPU);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace colonnade::testing

// What libFuzzer calls.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  colonnade::testing::use_graph_text(
      std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned int seed) {
  const std::string text = colonnade::testing::mutate_graph_text(
      std::string(reinterpret_cast<const char*>(data), size), seed);
  if (text.size() > max_size) {
    return size;
  }
  std::ranges::copy(text, data);
  return text.size();
}
