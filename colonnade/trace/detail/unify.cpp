// colonnade/trace/detail/unify.cpp
#include "colonnade/trace/detail/unify.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/op_name.h"

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using Values = std::vector<int64_t>;
using Table = std::vector<Values>;  // [observation][variable]

/// factor * x + offset over divisor, for all observations.
struct Line {
  int64_t factor = 0;
  int64_t offset = 0;
  int64_t divisor = 1;
};

/// The line through all points (x, y), if there is one.
std::optional<Line> line_through(const Values& x, const Values& y) {
  size_t other = 0;
  while (other < x.size() && x[other] == x[0]) {
    ++other;
  }
  if (other == x.size()) {
    return std::nullopt;
  }
  int64_t rise = y[other] - y[0];
  int64_t run = x[other] - x[0];
  const int64_t common = std::gcd(rise, run) * (run < 0 ? -1 : 1);
  if (common == 0) {
    return std::nullopt;
  }
  rise /= common;
  run /= common;
  const Line line{rise, y[0] * run - rise * x[0], run};
  for (size_t i = 0; i < x.size(); ++i) {
    if (line.factor * x[i] + line.offset != y[i] * line.divisor) {
      return std::nullopt;
    }
  }
  return line;
}

/// Finds the expression of some values, form by form, the simplest first.
class Search {
 public:
  Search(const Values& values, const Table& table)
      : values_(values), table_(table) {}

  std::optional<Expression> find() {
    for (size_t variable = 0; variable < table_[0].size(); ++variable) {
      if (std::ranges::any_of(table_, [&](const Values& row) {
            return row[variable] != table_[0][variable];
          })) {
        varied_.push_back(static_cast<int>(variable));
      }
    }
    for (const auto& form :
         {&Search::product, &Search::product_over_degree, &Search::sum,
          &Search::line, &Search::rounded_over_degree, &Search::rounded}) {
      if (std::optional<Expression> found = (this->*form)()) {
        return found;
      }
    }
    return std::nullopt;
  }

 private:
  Values product_of(const std::vector<int>& variables) const {
    Values result(values_.size(), 1);
    for (size_t i = 0; i < result.size(); ++i) {
      for (const int variable : variables) {
        result[i] *= table_[i][static_cast<size_t>(variable)];
      }
    }
    return result;
  }

  Values times_degree(int64_t shift = 0) const {
    Values result;
    for (size_t i = 0; i < values_.size(); ++i) {
      result.push_back(values_[i] * table_[i][0] + shift);
    }
    return result;
  }

  /// Calls f(variables) for sets of one, two and three, until it gives one.
  template <typename F>
  std::optional<Expression> first_of_sets(F&& f) const {
    for (size_t size = 1; size <= 3; ++size) {
      std::vector<int> set(size);
      const auto extend = [&](auto&& self, size_t place,
                              size_t from) -> std::optional<Expression> {
        if (place == size) {
          return f(set);
        }
        for (size_t i = from; i < varied_.size(); ++i) {
          set[place] = varied_[i];
          if (auto found = self(self, place + 1, i)) {
            return found;
          }
        }
        return std::nullopt;
      };
      if (auto found = extend(extend, 0, 0)) {
        return found;
      }
    }
    return std::nullopt;
  }

  std::optional<Expression> product_giving(const Values& wanted,
                                           bool over_degree) const {
    return first_of_sets(
        [&](const std::vector<int>& set) -> std::optional<Expression> {
          if (over_degree && std::ranges::find(set, 0) != set.end()) {
            return std::nullopt;
          }
          const auto line = line_through(product_of(set), wanted);
          if (!line || line->offset != 0) {
            return std::nullopt;
          }
          Expression expression;
          expression.terms = {{line->factor, set}};
          expression.divisor = line->divisor;
          expression.over_degree = over_degree;
          return expression;
        });
  }

  std::optional<Expression> product() const {
    return product_giving(values_, false);
  }

  std::optional<Expression> product_over_degree() const {
    const Values whole = times_degree();
    if (std::ranges::all_of(whole, [&](int64_t v) { return v == whole[0]; })) {
      Expression expression;
      expression.terms = {{whole[0], {}}};
      expression.over_degree = true;
      return expression;
    }
    return product_giving(whole, true);
  }

  /// A whole multiple of each variable, and a constant.
  std::optional<Expression> sum() const {
    Expression expression;
    int64_t rest = values_[0];
    for (const int variable : varied_) {
      const auto v = static_cast<size_t>(variable);
      const auto alone = std::ranges::find_if(table_, [&](const Values& row) {
        return row[v] != table_[0][v] &&
               std::ranges::all_of(varied_, [&](int other) {
                 const auto o = static_cast<size_t>(other);
                 return o == v || row[o] == table_[0][o];
               });
      });
      if (alone == table_.end()) {
        return std::nullopt;
      }
      const auto at = static_cast<size_t>(alone - table_.begin());
      const int64_t rise = values_[at] - values_[0];
      const int64_t run = (*alone)[v] - table_[0][v];
      if (rise % run != 0) {
        return std::nullopt;
      }
      if (rise != 0) {
        expression.terms.push_back({rise / run, {variable}});
        rest -= rise / run * table_[0][v];
      }
    }
    if (rest != 0) {
      expression.terms.push_back({rest, {}});
    }
    return checked(std::move(expression));
  }

  std::optional<Expression> line() const {
    for (const int variable : varied_) {
      const auto line = line_through(product_of({variable}), values_);
      if (line) {
        Expression expression;
        expression.terms = {{line->factor, {variable}}, {line->offset, {}}};
        expression.divisor = line->divisor;
        return expression;
      }
    }
    return std::nullopt;
  }

  /// A constant or a variable over the degree, rounded up.
  std::optional<Expression> rounded_over_degree() const {
    int64_t least_degree = table_[0][0];
    size_t at = 0;
    for (size_t i = 0; i < table_.size(); ++i) {
      if (table_[i][0] < least_degree) {
        least_degree = table_[i][0];
        at = i;
      }
    }
    Expression expression;
    expression.over_degree = true;
    expression.rounding = Expression::Rounding::kCeil;
    expression.terms = {{values_[at] * least_degree, {}}};
    if (auto found = checked(expression)) {
      return found;
    }
    for (const int variable : varied_) {
      expression.terms = {{1, {variable}}};
      if (auto found = checked(expression)) {
        return found;
      }
    }
    return std::nullopt;
  }

  /// (variable + constant) / a small divisor, rounded down.
  std::optional<Expression> rounded() const {
    constexpr int64_t kLargestDivisor = 64;
    for (const int variable : varied_) {
      const int64_t x = table_[0][static_cast<size_t>(variable)];
      for (int64_t divisor = 2; divisor <= kLargestDivisor; ++divisor) {
        const int64_t least = values_[0] * divisor - x;
        for (int64_t offset = least; offset < least + divisor; ++offset) {
          Expression expression;
          expression.terms = {{1, {variable}}, {offset, {}}};
          expression.divisor = divisor;
          expression.rounding = Expression::Rounding::kFloor;
          if (auto found = checked(std::move(expression))) {
            return found;
          }
        }
      }
    }
    return std::nullopt;
  }

  std::optional<Expression> checked(Expression expression) const {
    for (size_t i = 0; i < values_.size(); ++i) {
      if (evaluate(expression, table_[i]) != values_[i]) {
        return std::nullopt;
      }
    }
    return expression;
  }

  const Values& values_;
  const Table& table_;
  std::vector<int> varied_;
};

class Unifier {
 public:
  Unifier(Graph graph, const std::vector<Observation>& observations)
      : observations_(observations), graph_(std::move(graph)) {
    for (const Observation& observation : observations) {
      table_.push_back(observation.variables);
    }
  }

  Graph run();

 private:
  using Parallel = std::vector<const Argument*>;  // one an observation

  Argument merge(const Parallel& arguments, const std::string& place);
  Argument merge_ints(const Parallel& arguments, const std::string& place);
  Argument merge_floats(const Parallel& arguments, const std::string& place);
  Result merge_results(size_t node, size_t index);
  void check_same_calls() const;
  void check_same_weights() const;
  ExpressionRef intern(Expression expression);
  [[noreturn]] void refuse(const std::string& place, size_t other,
                           const std::string& a, const std::string& b,
                           std::string_view why) const;

  const std::vector<Observation>& observations_;
  Table table_;
  Graph graph_;
};

void Unifier::refuse(const std::string& place, size_t other,
                     const std::string& a, const std::string& b,
                     std::string_view why) const {
  const bool by_rank = table_[0] == table_[other];
  throw InvalidArgument(
      concat("trace: ", place, ": ", a, " ", observations_[0].where, ", but ",
             b, " ", observations_[other].where, "; ",
             by_rank ? "ranks have one graph, so forward must not ask for its "
                       "rank: use the parallel layers and mappings, which read "
                       "it inside of their ops"
                     : why));
}

void Unifier::check_same_calls() const {
  const Graph& first = *observations_[0].graph;
  for (size_t k = 1; k < observations_.size(); ++k) {
    const Graph& other = *observations_[k].graph;
    const size_t most = std::max(first.nodes.size(), other.nodes.size());
    for (size_t i = 0; i < most; ++i) {
      const auto call = [&](const Graph& graph) {
        return i < graph.nodes.size() ? to_string(graph, graph.nodes[i])
                                      : std::string("the end");
      };
      const bool same =
          i < first.nodes.size() && i < other.nodes.size() &&
          first.nodes[i].op == other.nodes[i].op &&
          first.nodes[i].arguments.size() == other.nodes[i].arguments.size() &&
          first.nodes[i].results.size() == other.nodes[i].results.size();
      if (!same) {
        const std::string op =
            i < first.nodes.size() ? first.nodes[i].op : other.nodes[i].op;
        refuse(concat("call ", i, ", ", op), k, call(first), call(other),
               "forward takes another way, and a graph has one: make the way "
               "independent of sizes, ranks and values, or fix the dims "
               "(TraceOptions::dynamic_dims)");
      }
    }
  }
}

void Unifier::check_same_weights() const {
  const auto& first = observations_[0].graph->weights;
  for (size_t k = 1; k < observations_.size(); ++k) {
    const auto& other = observations_[k].graph->weights;
    for (size_t i = 0; i < std::max(first.size(), other.size()); ++i) {
      const auto name = [&](const std::vector<Weight>& weights) {
        return i < weights.size()
                   ? concat(to_string(weights[i].kind), " ", weights[i].name)
                   : std::string("none");
      };
      if (name(first) != name(other)) {
        refuse(concat("weight ", i), k, name(first), name(other),
               "the model has the same tensors in every build");
      }
    }
  }
}

Graph Unifier::run() {
  const Graph& first = *observations_[0].graph;
  check_same_calls();
  check_same_weights();
  graph_.nodes.clear();
  for (size_t i = 0; i < first.nodes.size(); ++i) {
    Node node{first.nodes[i].op, {}, {}};
    for (size_t j = 0; j < first.nodes[i].arguments.size(); ++j) {
      Parallel arguments;
      for (const Observation& observation : observations_) {
        arguments.push_back(&observation.graph->nodes[i].arguments[j]);
      }
      node.arguments.push_back(
          merge(arguments, concat("call ", i, ", ", node.op, ", argument ",
                                  argument_name(node.op, j))));
    }
    for (size_t j = 0; j < first.nodes[i].results.size(); ++j) {
      node.results.push_back(merge_results(i, j));
    }
    graph_.nodes.push_back(std::move(node));
  }
  graph_.outputs.clear();
  for (size_t k = 1; k < observations_.size(); ++k) {
    if (observations_[k].graph->output_structure != first.output_structure) {
      refuse("the output", k, "is nested one way", "another way",
             "forward gives the same structure always");
    }
  }
  for (size_t i = 0; i < first.outputs.size(); ++i) {
    Parallel outputs;
    for (const Observation& observation : observations_) {
      outputs.push_back(&observation.graph->outputs[i]);
    }
    graph_.outputs.push_back(merge(outputs, concat("output ", i)));
  }
  return std::move(graph_);
}

ExpressionRef Unifier::intern(Expression expression) {
  auto& all = graph_.expressions;
  const auto found = std::ranges::find(all, expression);
  const auto index = static_cast<int>(found - all.begin());
  if (found == all.end()) {
    all.push_back(std::move(expression));
  }
  return {index};
}

Argument Unifier::merge_ints(const Parallel& arguments,
                             const std::string& place) {
  Values values;
  for (const Argument* argument : arguments) {
    values.push_back(argument->as<int64_t>());
  }
  if (auto expression = find_expression(values, table_)) {
    return {intern(std::move(*expression))};
  }
  size_t other = 1;
  while (values[other] == values[0]) {
    ++other;
  }
  refuse(place, other, std::to_string(values[0]), std::to_string(values[other]),
         "the int is no expression of the sizes of the inputs and the degree "
         "that a graph can hold");
}

Argument Unifier::merge_floats(const Parallel& arguments,
                               const std::string& place) {
  for (size_t input = 0; input < graph_.inputs.size(); ++input) {
    const bool equal = [&] {
      for (size_t k = 0; k < arguments.size(); ++k) {
        const Argument& given = observations_[k].graph->inputs[input].constant;
        if (!given.is<double>() || given != *arguments[k]) {
          return false;
        }
      }
      return true;
    }();
    if (equal) {
      return {FloatInput{static_cast<int>(input)}};
    }
  }
  size_t other = 1;
  while (*arguments[other] == *arguments[0]) {
    ++other;
  }
  refuse(place, other, to_string(graph_, *arguments[0]),
         to_string(graph_, *arguments[other]),
         "the float is none of the inputs; compute it with tensors");
}

Argument Unifier::merge(const Parallel& arguments, const std::string& place) {
  const Argument& first = *arguments[0];
  const auto differs = std::ranges::find_if(
      arguments, [&](const Argument* other) { return *other != first; });
  if (differs == arguments.end()) {
    return first;
  }
  const auto all = [&](auto&& is) {
    return std::ranges::all_of(arguments, is);
  };
  if (all([](const Argument* a) { return a->is<int64_t>(); })) {
    return merge_ints(arguments, place);
  }
  if (all([](const Argument* a) { return a->is<double>(); })) {
    return merge_floats(arguments, place);
  }
  if (all([](const Argument* a) { return a->is<WrappedNumber>(); })) {
    Parallel numbers;
    for (const Argument* argument : arguments) {
      numbers.push_back(&argument->as<WrappedNumber>().number.at(0));
    }
    return {WrappedNumber{{merge(numbers, place)}}};
  }
  if (first.is<ArgumentList>() && all([&](const Argument* a) {
        return a->is<ArgumentList>() &&
               a->as<ArgumentList>().size() == first.as<ArgumentList>().size();
      })) {
    ArgumentList list;
    for (size_t i = 0; i < first.as<ArgumentList>().size(); ++i) {
      Parallel items;
      for (const Argument* argument : arguments) {
        items.push_back(&argument->as<ArgumentList>()[i]);
      }
      list.push_back(merge(items, concat(place, "[", i, "]")));
    }
    return {std::move(list)};
  }
  const auto other = static_cast<size_t>(differs - arguments.begin());
  refuse(place, other, to_string(*observations_[0].graph, first),
         to_string(*observations_[other].graph, **differs),
         "only ints and floats may follow from the inputs");
}

Result Unifier::merge_results(size_t node, size_t index) {
  const auto result = [&](size_t k) -> const Result& {
    return observations_[k].graph->nodes[node].results[index];
  };
  const std::string place =
      concat("call ", node, ", ", observations_[0].graph->nodes[node].op);
  if (std::holds_alternative<Guard>(result(0))) {
    Parallel expected;
    for (size_t k = 0; k < observations_.size(); ++k) {
      if (!std::holds_alternative<Guard>(result(k))) {
        refuse(place, k, "gives a number", "none", "its results are alike");
      }
      expected.push_back(&std::get<Guard>(result(k)).expected);
    }
    return Guard{merge(expected, concat(place, ", what it gives"))};
  }
  for (size_t k = 1; k < observations_.size(); ++k) {
    if (result(k) != result(0)) {
      const auto call = [&](size_t at) {
        const Graph& graph = *observations_[at].graph;
        return to_string(graph, graph.nodes[node]);
      };
      refuse(concat(place, ", result ", index), k, call(0), call(k),
             "the number of tensors must not depend on sizes, ranks or the "
             "degree");
    }
  }
  return result(0);
}

}  // namespace

std::optional<Expression> find_expression(
    const std::vector<int64_t>& values,
    const std::vector<std::vector<int64_t>>& variables) {
  return Search(values, variables).find();
}

Graph unify(const Graph& skeleton,
            const std::vector<Observation>& observations) {
  Graph graph = *observations.at(0).graph;
  graph.variables = skeleton.variables;
  graph.inputs = skeleton.inputs;
  for (const Observation& observation : observations) {
    graph.is_random |= observation.graph->is_random;
  }
  return Unifier(std::move(graph), observations).run();
}

}  // namespace colonnade::trace::detail
