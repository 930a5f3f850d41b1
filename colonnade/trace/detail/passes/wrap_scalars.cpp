// colonnade/trace/detail/passes/wrap_scalars.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

/// Whether a call is of an op whose form for a number makes a tensor of it and
/// calls the form for tensors.
bool makes_tensor(const Node& node) {
  constexpr std::array<std::string_view, 8> kNames = {
      "aten::add",  "aten::sub",  "aten::mul",  "aten::div",
      "aten::add_", "aten::sub_", "aten::mul_", "aten::div_"};
  return (node.op.ends_with(".Scalar") || node.op.ends_with(".Tensor")) &&
         std::ranges::find(kNames, base_name(node)) != kNames.end();
}

/// The number that such a call takes as its second argument.
std::optional<Argument> number_of(const Node& node) {
  if (!makes_tensor(node)) {
    return std::nullopt;
  }
  const Argument& argument = node.arguments[1];
  const Argument& number = argument.is<WrappedNumber>()
                               ? argument.as<WrappedNumber>().number.at(0)
                               : argument;
  return number.is<int64_t>() || number.is<double>()
             ? std::optional<Argument>(number)
             : std::nullopt;
}

bool fits_float(const Argument& number) {
  return number.is<int64_t>() ||
         std::isfinite(static_cast<float>(number.as<double>()));
}

class Wrapper {
 public:
  explicit Wrapper(Graph graph) : graph_(std::move(graph)) {}

  Graph run() {
    for (Node& node : graph_.nodes) {
      if (auto number = number_of(node)) {
        node.arguments[1] = {WrappedNumber{{*number}}};
        if (is_float(node.arguments[0]) && fits_float(*number)) {
          node.arguments[1] = {Value{float_tensor(*number)}};
        }
        node.op = std::string(base_name(node)) + ".Tensor";
      }
    }
    return std::move(graph_);
  }

 private:
  bool is_float(const Argument& argument) const {
    return argument.is<Value>() &&
           graph_.values[static_cast<size_t>(argument.as<Value>().id)].dtype ==
               at::kFloat;
  }

  /// Made in the prologue, once for each number.
  int float_tensor(const Argument& number) {
    const auto found =
        std::ranges::find(numbers_, number, &std::pair<Argument, int>::first);
    if (found != numbers_.end()) {
      return found->second;
    }
    const auto value = static_cast<int>(graph_.values.size());
    graph_.values.push_back({at::kFloat, {}, sizeof(float)});
    graph_.prologue.push_back(
        {"aten::scalar_tensor",
         {number, {static_cast<int64_t>(at::kFloat)}, {}, {}, {}},
         {Value{value}}});
    numbers_.emplace_back(number, value);
    return value;
  }

  Graph graph_;
  std::vector<std::pair<Argument, int>> numbers_;
};

}  // namespace

/// torch makes a tensor of double, and of that a tensor of float, at each call:
/// 1.1 us of the 1.6 that x + 1 takes of 16 floats (Zen 5). In other dtypes
/// than float the second step stays, as bfloat16 sums with the number as it is.
Graph wrap_scalars(Graph graph, const PassFacts& facts) {
  return facts.device.is_cpu() ? Wrapper(std::move(graph)).run()
                               : std::move(graph);
}

}  // namespace colonnade::trace::detail
