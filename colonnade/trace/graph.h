// colonnade/trace/graph.h
#pragma once

#include "colonnade/core/api.h"

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <c10/util/complex.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace colonnade::trace {

// A traced forward pass as plain data: a list of dispatcher calls on numbered
// values, equal on every rank. docs/trace_format.md describes its file.

/// A value of the graph, in [0, Graph::values.size()).
struct Value {
  int id = -1;
  bool operator==(const Value&) const = default;
};

/// The expression at this place of Graph::expressions.
struct ExpressionRef {
  int index = 0;
  bool operator==(const ExpressionRef&) const = default;
};

/// The float that is input leaf `input`.
struct FloatInput {
  int input = 0;
  bool operator==(const FloatInput&) const = default;
};

struct Argument;
using ArgumentList = std::vector<Argument>;

/// A number that torch made a tensor of: it takes no part in type promotion.
struct WrappedNumber {
  std::vector<Argument> number;  ///< One: an int, expression, float or complex.
  bool operator==(const WrappedNumber&) const;
};

/// What an op is given. An op's dtype, layout and memory format are ints.
struct COLONNADE_API Argument {
  using Variant =
      std::variant<std::monostate, Value, ExpressionRef, FloatInput,
                   WrappedNumber, bool, int64_t, double, c10::complex<double>,
                   std::string, c10::Device, ArgumentList>;
  Variant what;

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(what);
  }
  template <typename T>
  const T& as() const {
    return std::get<T>(what);
  }
  bool operator==(const Argument&) const;
};

/// A bool or an int that left the graph while it was recorded: the program went
/// the way of `expected`, so a replay that computes another value throws.
struct Guard {
  Argument expected;
  bool operator==(const Guard&) const = default;
};

/// What becomes of one result of an op.
using Result = std::variant<std::monostate, Value, std::vector<Value>, Guard>;

struct Node {
  std::string op;  ///< "aten::add.Tensor": name and overload.
  std::vector<Argument> arguments;
  std::vector<Result> results;
};

/// What is known of a value, and what it was in the example.
struct ValueInfo {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> example_shape;
  int64_t example_bytes = 0;  ///< Of its elements.
};

/// A whole number that a call brings along: the size of an input's dim, or an
/// input that is an int. Variable 0 is the tensor-parallel degree.
struct Variable {
  std::string name;  ///< "degree", "s0", …
  int64_t example = 0;
  bool operator==(const Variable&) const = default;
};

/// A whole number that follows from the variables:
/// (sum of terms) / (divisor * degree if over_degree).
struct Expression {
  struct Term {
    int64_t factor = 1;
    std::vector<int> variables;  ///< Multiplied; may repeat.
    bool operator==(const Term&) const = default;
  };
  enum class Rounding { kExact, kFloor, kCeil };

  std::vector<Term> terms;
  int64_t divisor = 1;
  bool over_degree = false;
  Rounding rounding = Rounding::kExact;
  bool operator==(const Expression&) const = default;
};

/// The value for `variables`, one for each of Graph::variables.
///
/// Errors  InvalidArgument where an exact division leaves a rest, or a number
///         is too large
COLONNADE_API int64_t evaluate(const Expression& expression,
                               const std::vector<int64_t>& variables);

/// The nesting of what goes in or comes out. Leaves are numbered from left to
/// right.
struct Structure {
  enum class Kind { kLeaf, kNone, kTuple, kList, kDict };

  Kind kind = Kind::kLeaf;
  std::vector<Structure> items;
  std::vector<Argument> keys;  ///< Of a dict: strings or ints.
  bool operator==(const Structure&) const = default;
};

/// A dim of an input: fixed, or a variable.
struct InputDim {
  int64_t size = 0;
  int variable = -1;  ///< -1: fixed.
  bool operator==(const InputDim&) const = default;
};

/// A leaf of the inputs.
struct Input {
  enum class Kind { kTensor, kInt, kFloat, kBool, kString };

  Kind kind = Kind::kTensor;
  std::string name;  ///< "input 0", "input 1[2]", "input 0.mask".
  int value = -1;    ///< Of a tensor.
  at::ScalarType dtype = at::kFloat;
  std::vector<InputDim> dims;
  int variable = -1;  ///< Of an int that varies.
  Argument constant;  ///< A bool, a string, an int that does not vary.
};

/// A tensor that the graph finds in its place before it runs.
struct Weight {
  enum class Kind {
    kParameter,
    kBuffer,
    kConstant,  ///< Not registered with the model, equal on all ranks.
    kState,     ///< A buffer that forward writes: a session has its own.
  };

  Kind kind = Kind::kParameter;
  std::string name;                  ///< As in the model's state dict.
  std::vector<std::string> aliases;  ///< Further names of a tied one.
  int value = -1;
  /// Of a state only: its whole shape, the dim along which it is split over the
  /// ranks (-1: each has all of it), and whether it starts as zeros.
  std::vector<int64_t> shape = {};
  int64_t split_dim = -1;
  bool is_zero = false;
};

/// Names of the kinds, in their order: "parameter", …
COLONNADE_API const char* to_string(Weight::Kind kind);

struct Graph {
  int64_t degree = 1;                ///< At which it was recorded.
  std::optional<std::string> fixed;  ///< Why it is valid at that degree only.
  bool is_random = false;            ///< Some op draws random numbers.
  at::DeviceType device = at::kCPU;  ///< On which it was recorded.
  std::vector<Variable> variables;
  std::vector<Expression> expressions;
  Structure input_structure;  ///< A tuple of the inputs.
  std::vector<Input> inputs;
  Structure output_structure;
  std::vector<Argument> outputs;  ///< Values and numbers, by leaf.
  std::vector<Weight> weights;
  std::vector<ValueInfo> values;
  std::vector<Node> nodes;
  /// Run once when weights are bound: what follows from weights alone. Made by
  /// passes, never in a file.
  std::vector<Node> prologue;
};

/// For people: one line a call.
COLONNADE_API std::string to_string(const Graph& graph);

/// One call, as to_string(Graph) has it.
COLONNADE_API std::string to_string(const Graph& graph, const Node& node);
COLONNADE_API std::string to_string(const Graph& graph,
                                    const Expression& expression);
COLONNADE_API std::string to_string(const Graph& graph,
                                    const Argument& argument);

}  // namespace colonnade::trace
