// colonnade/trace/graph.cpp
#include "colonnade/trace/graph.h"

#include "colonnade/core/error.h"

#include <sstream>
#include <utility>

namespace colonnade::trace {
namespace {

/// a * b and a + b; InvalidArgument where the result has no int64.
int64_t times(int64_t a, int64_t b) {
  int64_t result = 0;
  check_arg(!__builtin_mul_overflow(a, b, &result), "Expression: ", a, " * ", b,
            " is too large; give smaller inputs");
  return result;
}

int64_t plus(int64_t a, int64_t b) {
  int64_t result = 0;
  check_arg(!__builtin_add_overflow(a, b, &result), "Expression: ", a, " + ", b,
            " is too large; give smaller inputs");
  return result;
}

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

template <typename List, typename Show>
std::string join(const List& list, Show&& show) {
  std::string text;
  for (const auto& item : list) {
    text += (text.empty() ? "" : ", ") + show(item);
  }
  return text;
}

std::string show_shape(const std::vector<int64_t>& shape) {
  return concat("[", join(shape, [](int64_t n) { return std::to_string(n); }),
                "]");
}

std::string show_value(const Graph& graph, int id) {
  const ValueInfo& info = graph.values[static_cast<size_t>(id)];
  return concat("%", id, " ", c10::toString(info.dtype),
                show_shape(info.example_shape));
}

std::string show_structure(const Structure& structure, const Graph& graph,
                           size_t& leaf) {
  using Kind = Structure::Kind;
  if (structure.kind == Kind::kLeaf) {
    return to_string(graph, graph.outputs[leaf++]);
  }
  if (structure.kind == Kind::kNone) {
    return "none";
  }
  std::string text;
  for (size_t i = 0; i < structure.items.size(); ++i) {
    text += i == 0 ? "" : ", ";
    if (structure.kind == Kind::kDict) {
      text += to_string(graph, structure.keys[i]) + ": ";
    }
    text += show_structure(structure.items[i], graph, leaf);
  }
  return structure.kind == Kind::kDict    ? concat("{", text, "}")
         : structure.kind == Kind::kTuple ? concat("(", text, ")")
                                          : concat("[", text, "]");
}

std::string show_input(const Graph& graph, const Input& input) {
  if (input.kind == Input::Kind::kTensor) {
    return concat(
        "%", input.value, " = ", input.name, ": ", c10::toString(input.dtype),
        "[",
        join(input.dims,
             [&](const InputDim& dim) {
               return dim.variable < 0
                          ? std::to_string(dim.size)
                          : graph.variables[static_cast<size_t>(dim.variable)]
                                .name;
             }),
        "]");
  }
  if (input.variable >= 0) {
    return concat(graph.variables[static_cast<size_t>(input.variable)].name,
                  " = ", input.name, ": int");
  }
  if (input.kind == Input::Kind::kFloat) {
    return concat(input.name, ": float");
  }
  return concat(input.name, " = ", to_string(graph, input.constant));
}

}  // namespace

bool WrappedNumber::operator==(const WrappedNumber&) const = default;
bool Argument::operator==(const Argument&) const = default;

int64_t evaluate(const Expression& expression,
                 const std::vector<int64_t>& variables) {
  int64_t sum = 0;
  for (const Expression::Term& term : expression.terms) {
    int64_t product = term.factor;
    for (const int variable : term.variables) {
      product = times(product, variables[static_cast<size_t>(variable)]);
    }
    sum = plus(sum, product);
  }
  const int64_t divisor = expression.over_degree
                              ? times(expression.divisor, variables[0])
                              : expression.divisor;
  if (divisor == 1) {
    return sum;
  }
  // Rounded towards zero; of the sign of the sum.
  const int64_t quotient = sum / divisor;
  const int64_t rest = sum % divisor;
  switch (expression.rounding) {
    case Expression::Rounding::kExact:
      check_arg(rest == 0, "Expression: ", sum, " does not divide by ", divisor,
                ", as it did when the graph was recorded; give an input of "
                "another size");
      return quotient;
    case Expression::Rounding::kFloor:
      return quotient - (rest < 0 ? 1 : 0);
    case Expression::Rounding::kCeil:
      return quotient + (rest > 0 ? 1 : 0);
  }
  return 0;
}

const char* to_string(Weight::Kind kind) {
  constexpr const char* kNames[] = {"parameter", "buffer", "constant", "state"};
  return kNames[static_cast<size_t>(kind)];
}

std::string to_string(const Graph& graph, const Expression& expression) {
  std::string text;
  for (const Expression::Term& term : expression.terms) {
    std::string product;
    if (term.factor != 1 || term.variables.empty()) {
      product = std::to_string(term.factor);
    }
    for (const int variable : term.variables) {
      product += (product.empty() ? "" : "*") +
                 graph.variables[static_cast<size_t>(variable)].name;
    }
    const bool minus = term.factor < 0 && !text.empty();
    text += text.empty() || minus ? "" : "+";
    text += product;
  }
  if (expression.divisor == 1 && !expression.over_degree) {
    return text;
  }
  if (expression.terms.size() > 1) {
    text = concat("(", text, ")");
  }
  constexpr const char* kSlash[] = {"/", "//", "/^"};
  const char* slash = kSlash[static_cast<size_t>(expression.rounding)];
  if (expression.divisor != 1) {
    text += slash + std::to_string(expression.divisor);
  }
  if (expression.over_degree) {
    text += slash + graph.variables[0].name;
  }
  return text;
}

std::string to_string(const Graph& graph, const Argument& argument) {
  return std::visit(
      Overloaded{
          [](std::monostate) -> std::string { return "none"; },
          [](const Value& value) { return concat("%", value.id); },
          [&](const ExpressionRef& ref) {
            return to_string(graph,
                             graph.expressions[static_cast<size_t>(ref.index)]);
          },
          [&](const FloatInput& input) {
            return graph.inputs[static_cast<size_t>(input.input)].name;
          },
          [&](const WrappedNumber& wrapped) {
            return to_string(graph, wrapped.number.at(0));
          },
          [](bool value) -> std::string { return value ? "true" : "false"; },
          [](int64_t value) { return std::to_string(value); },
          [](double value) {
            std::ostringstream out;
            out.precision(17);
            out << value;
            std::string text = out.str();
            const bool whole =
                text.find_first_not_of("-0123456789") == std::string::npos;
            return whole ? text + ".0" : text;
          },
          [](const c10::complex<double>& value) {
            return concat("(", value.real(), "+", value.imag(), "j)");
          },
          [](const std::string& value) { return concat('"', value, '"'); },
          [](const c10::Device& device) { return device.str(); },
          [&](const ArgumentList& list) {
            return concat("[",
                          join(list,
                               [&](const Argument& item) {
                                 return to_string(graph, item);
                               }),
                          "]");
          }},
      argument.what);
}

std::string to_string(const Graph& graph, const Node& node) {
  std::string results;
  std::string guard;
  for (const Result& result : node.results) {
    const std::string text = std::visit(
        Overloaded{
            [](std::monostate) -> std::string { return "_"; },
            [&](const Value& value) { return show_value(graph, value.id); },
            [&](const std::vector<Value>& values) {
              return concat("[",
                            join(values,
                                 [&](const Value& value) {
                                   return show_value(graph, value.id);
                                 }),
                            "]");
            },
            [&](const Guard& expected) {
              guard = concat("guard == ", to_string(graph, expected.expected));
              return guard;
            }},
        result);
    results += (results.empty() ? "" : ", ") + text;
  }
  return concat(results, results.empty() ? "" : " = ", node.op, "(",
                join(node.arguments,
                     [&](const Argument& argument) {
                       return to_string(graph, argument);
                     }),
                ")");
}

std::string to_string(const Graph& graph) {
  std::ostringstream out;
  out << "graph recorded at tensor-parallel degree " << graph.degree << ", ";
  if (graph.fixed.has_value()) {
    out << "for that degree only: " << *graph.fixed << "\n";
  } else {
    out << "for any degree\n";
  }
  for (size_t i = 1; i < graph.variables.size(); ++i) {
    out << "  " << graph.variables[i].name << ": " << graph.variables[i].example
        << " in the example\n";
  }
  for (const Input& input : graph.inputs) {
    out << "  " << show_input(graph, input) << "\n";
  }
  for (const Weight& weight : graph.weights) {
    out << "  " << show_value(graph, weight.value) << " = "
        << to_string(weight.kind) << " " << weight.name;
    for (const std::string& alias : weight.aliases) {
      out << ", " << alias;
    }
    out << "\n";
  }
  for (const Node& node : graph.prologue) {
    out << "  once: " << to_string(graph, node) << "\n";
  }
  for (const Node& node : graph.nodes) {
    out << "  " << to_string(graph, node) << "\n";
  }
  size_t leaf = 0;
  out << "  return " << show_structure(graph.output_structure, graph, leaf)
      << "\n";
  return out.str();
}

}  // namespace colonnade::trace
