// colonnade/trace/detail/passes/fold_constants.cpp
#include "colonnade/trace/detail/passes/aliases.h"
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

/// What a folded value may cost in memory that it did not before.
constexpr int64_t kMostBytes = int64_t{1} << 20;

/// Ops that may give a view, or a copy.
bool may_copy(std::string_view name) {
  constexpr std::array<std::string_view, 6> kNames = {
      "aten::reshape", "aten::contiguous", "aten::to",
      "aten::flatten", "aten::reshape_as", "aten::ravel"};
  return std::ranges::find(kNames, name) != kNames.end();
}

class Folder {
 public:
  Folder(Graph graph, int64_t degree)
      : graph_(std::move(graph)),
        aliases_(graph_),
        variables_(graph_.variables.size(), 0),
        barred_(graph_.nodes.size(), false) {
    if (!variables_.empty()) {
      variables_[0] = degree;
    }
  }

  Graph run() {
    find_movable();
    // What turns out too large stays, and so does what follows from it.
    while (bar_large()) {
      find_movable();
    }
    move();
    return std::move(graph_);
  }

 private:
  void find_movable();
  bool can_move(const Node& node) const;
  bool is_known(const Argument& argument) const;
  int64_t bytes_of(const Node& node, int result) const;
  bool bar_large();
  void move();
  void settle(Argument& argument) const;

  Graph graph_;
  Aliases aliases_;
  std::vector<int64_t> variables_;  ///< Only the degree is known.
  std::vector<bool> barred_;        ///< Nodes that stay.
  std::vector<bool> movable_;       ///< Nodes that can go.
  std::vector<bool> known_;         ///< Values there before the graph runs.
  std::vector<int64_t> bytes_;      ///< Of memory that a known value adds.
};

bool depends_on_degree_only(const Expression& expression) {
  return std::ranges::all_of(
      expression.terms, [](const Expression::Term& term) {
        return std::ranges::all_of(term.variables,
                                   [](int variable) { return variable == 0; });
      });
}

bool Folder::is_known(const Argument& argument) const {
  if (argument.is<Value>()) {
    return known_[static_cast<size_t>(argument.as<Value>().id)];
  }
  if (argument.is<ExpressionRef>()) {
    return depends_on_degree_only(graph_.expressions[static_cast<size_t>(
        argument.as<ExpressionRef>().index)]);
  }
  if (argument.is<FloatInput>()) {
    return false;
  }
  const auto all_known = [this](const ArgumentList& items) {
    return std::ranges::all_of(
        items, [this](const Argument& item) { return is_known(item); });
  };
  if (argument.is<WrappedNumber>()) {
    return all_known(argument.as<WrappedNumber>().number);
  }
  return !argument.is<ArgumentList>() || all_known(argument.as<ArgumentList>());
}

bool Folder::can_move(const Node& node) const {
  bool can = is_pure(node) &&
             std::ranges::all_of(node.arguments, [this](const Argument& item) {
               return is_known(item);
             });
  for_each_result_value(
      node.results, [&](int id) { can = can && aliases_.keeps_its_data(id); });
  return can;
}

int64_t Folder::bytes_of(const Node& node, int result) const {
  const auto& returns = op_of(node).schema().returns();
  const bool view = std::ranges::any_of(
      returns, [](const auto& item) { return item.alias_info() != nullptr; });
  int64_t of_arguments = 0;
  bool same = false;
  for_each_argument_value(node, [&](int id) {
    of_arguments = std::max(of_arguments, bytes_[static_cast<size_t>(id)]);
    same = same || id == result;
  });
  const int64_t own = graph_.values[static_cast<size_t>(result)].example_bytes;
  if (same || (view && !may_copy(base_name(node)))) {
    return of_arguments;
  }
  return view ? std::max(of_arguments, own) : own;
}

void Folder::find_movable() {
  known_.assign(graph_.values.size(), false);
  bytes_.assign(graph_.values.size(), 0);
  movable_.assign(graph_.nodes.size(), false);
  for (const Weight& weight : graph_.weights) {
    known_[static_cast<size_t>(weight.value)] =
        aliases_.keeps_its_data(weight.value);
  }
  const auto add = [this](const Node& node) {
    for_each_result_value(node.results, [&](int id) {
      bytes_[static_cast<size_t>(id)] = bytes_of(node, id);
    });
    for_each_result_value(
        node.results, [&](int id) { known_[static_cast<size_t>(id)] = true; });
  };
  std::ranges::for_each(graph_.prologue, add);
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    movable_[i] = !barred_[i] && can_move(graph_.nodes[i]);
    if (movable_[i]) {
      add(graph_.nodes[i]);
    }
  }
}

/// Only what the rest of the graph reads stays in memory.
bool Folder::bar_large() {
  std::vector<bool> read(graph_.values.size(), false);
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (!movable_[i]) {
      for_each_argument_value(graph_.nodes[i], [&](int id) {
        read[static_cast<size_t>(id)] = true;
      });
    }
  }
  bool any = false;
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    bool large = false;
    for_each_result_value(graph_.nodes[i].results, [&](int id) {
      const auto at = static_cast<size_t>(id);
      large = large || (read[at] && bytes_[at] > kMostBytes);
    });
    barred_[i] = barred_[i] || (movable_[i] && large);
    any = any || (movable_[i] && large);
  }
  return any;
}

/// There are no numbers yet when the prologue runs.
void Folder::settle(Argument& argument) const {
  if (argument.is<ExpressionRef>()) {
    argument.what = evaluate(graph_.expressions[static_cast<size_t>(
                                 argument.as<ExpressionRef>().index)],
                             variables_);
  } else if (auto* list = std::get_if<ArgumentList>(&argument.what)) {
    std::ranges::for_each(*list, [this](Argument& item) { settle(item); });
  } else if (auto* number = std::get_if<WrappedNumber>(&argument.what)) {
    std::ranges::for_each(number->number,
                          [this](Argument& item) { settle(item); });
  }
}

void Folder::move() {
  std::vector<Node> rest;
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    Node& node = graph_.nodes[i];
    if (movable_[i]) {
      std::ranges::for_each(node.arguments,
                            [this](Argument& item) { settle(item); });
      graph_.prologue.push_back(std::move(node));
    } else {
      rest.push_back(std::move(node));
    }
  }
  graph_.nodes = std::move(rest);
}

}  // namespace

Graph fold_constants(Graph graph, const PassFacts& facts) {
  return Folder(std::move(graph), facts.degree).run();
}

}  // namespace colonnade::trace::detail
