// colonnade/trace/detail/check_graph.cpp
#include "colonnade/trace/detail/check_graph.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/argument_types.h"
#include "colonnade/trace/detail/callable_ops.h"
#include "colonnade/trace/detail/op_name.h"

#include <c10/core/ScalarTypeToTypeMeta.h>

#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

class Checker {
 public:
  Checker(const Graph& graph, const std::string& subject,
          std::span<const std::string> namespaces)
      : graph_(graph),
        subject_(subject),
        namespaces_(namespaces),
        is_made_(graph.values.size(), false),
        last_call_(graph.values.size(), 0) {}

  void run();

 private:
  template <typename... Parts>
  void require(bool ok, const Parts&... parts) const {
    check<CheckpointError>(ok, subject_, ": ", parts...);
  }
  template <typename List>
  void check_count(const List& list, std::string_view what,
                   size_t most = kMaxItems) const {
    require(list.size() <= most, "has ", list.size(), " ", what,
            "; there are at most ", most);
  }

  void check_head() const;
  void check_variables() const;
  void check_expressions() const;
  void check_values() const;
  int64_t elements_of(const std::vector<int64_t>& shape,
                      std::string_view place) const;
  size_t leaves_of(const Structure& structure, std::string_view place,
                   size_t depth) const;
  void check_inputs();
  void check_input(const Input& input, std::set<int>& given) const;
  void check_weights();
  void make(int value, std::string_view place);

  void check_calls();
  void check_call(const Node& node);
  void check_length(const Argument& argument, const c10::Argument& declared,
                    const std::string& place) const;
  void check_references(const Argument& argument, const std::string& place);
  void check_result(const Result& result, const c10::Type& type,
                    const std::string& place);
  void make_in_call(int value, const std::string& place);
  void check_outputs();

  bool is_value(int id) const {
    return 0 <= id && static_cast<size_t>(id) < graph_.values.size();
  }
  bool is_variable(int variable) const {
    return 0 <= variable &&
           static_cast<size_t>(variable) < graph_.variables.size();
  }

  const Graph& graph_;
  const std::string& subject_;
  std::span<const std::string> namespaces_;
  std::vector<bool> is_made_;
  std::vector<size_t> last_call_;  // that a value was in, counted from 1
  size_t call_ = 0;                // likewise
};

void Checker::run() {
  check_head();
  check_variables();
  check_expressions();
  check_values();
  check_inputs();
  check_weights();
  check_calls();
  check_outputs();
}

void Checker::check_head() const {
  require(1 <= graph_.degree && graph_.degree <= kMaxDegree, "has degree ",
          graph_.degree, "; a degree is 1 to ", kMaxDegree);
  require(graph_.prologue.empty(), "has a prologue, which no file has");
  check_count(graph_.variables, "variables", kMaxVariables);
  check_count(graph_.expressions, "expressions");
  check_count(graph_.inputs, "inputs");
  check_count(graph_.weights, "weights");
  check_count(graph_.values, "values");
  check_count(graph_.nodes, "calls", kMaxCalls);
  check_count(graph_.outputs, "outputs");
}

void Checker::check_variables() const {
  for (const Variable& variable : graph_.variables) {
    require(!variable.name.empty() && variable.name.size() <= kMaxNameBytes,
            "a variable has a name of ", variable.name.size(), " bytes");
  }
  require(!graph_.variables.empty(),
          "has no variables; variable 0 is the degree");
  require(graph_.variables[0].example == graph_.degree, "variable 0 is ",
          graph_.variables[0].example, ", and the degree ", graph_.degree,
          "; they are the same");
}

void Checker::check_expressions() const {
  for (size_t i = 0; i < graph_.expressions.size(); ++i) {
    const Expression& expression = graph_.expressions[i];
    const std::string place = concat("expression $", i, ": ");
    require(expression.terms.size() <= kMaxTerms, place, "has ",
            expression.terms.size(), " terms; there are at most ", kMaxTerms);
    for (const Expression::Term& term : expression.terms) {
      require(term.variables.size() <= kMaxFactors, place, "multiplies ",
              term.variables.size(), " variables; there are at most ",
              kMaxFactors);
      for (const int variable : term.variables) {
        require(is_variable(variable), place, "has variable ", variable, " of ",
                graph_.variables.size());
      }
    }
    require(1 <= expression.divisor && expression.divisor <= kMaxDivisor, place,
            "divides by ", expression.divisor, ", not by 1 to ", kMaxDivisor);
  }
}

void Checker::check_values() const {
  for (size_t i = 0; i < graph_.values.size(); ++i) {
    const ValueInfo& info = graph_.values[i];
    const std::string place = concat("value %", i);
    const int64_t elements = elements_of(info.example_shape, place);
    int64_t bytes = 0;
    require(info.dtype < at::ScalarType::Undefined &&
                !__builtin_mul_overflow(
                    elements,
                    static_cast<int64_t>(
                        c10::scalarTypeToTypeMeta(info.dtype).itemsize()),
                    &bytes) &&
                bytes == info.example_bytes,
            place, ": has ", info.example_bytes, " bytes, which ", elements,
            " elements of ", info.dtype, " do not have");
  }
}

/// How many elements a tensor of this shape has.
int64_t Checker::elements_of(const std::vector<int64_t>& shape,
                             std::string_view place) const {
  require(shape.size() <= kMaxDims, place, ": has ", shape.size(),
          " dims; there are at most ", kMaxDims);
  int64_t elements = 1;
  for (const int64_t size : shape) {
    require(size >= 0, place, ": has a dim of size ", size);
    require(!__builtin_mul_overflow(elements, size, &elements), place,
            ": has shape ", at::IntArrayRef(shape), ", which is too large");
  }
  return elements;
}

size_t Checker::leaves_of(const Structure& structure, std::string_view place,
                          size_t depth) const {
  using Kind = Structure::Kind;
  require(depth <= kMaxNesting, place, ": is nested more than ", kMaxNesting,
          " deep");
  check_count(structure.items, "items in one tuple, list or dict");
  const bool is_dict = structure.kind == Kind::kDict;
  require(structure.keys.size() == (is_dict ? structure.items.size() : 0),
          place, ": has ", structure.keys.size(), " keys for ",
          structure.items.size(), " items");
  std::set<std::string> keys;
  for (const Argument& key : structure.keys) {
    require(key.what.index() == structure.keys[0].what.index() &&
                (key.is<std::string>() || key.is<int64_t>()),
            place, ": a dict has ", kind_of(key),
            " as a key; all are strings, or all are ints");
    const std::string text = key.is<std::string>()
                                 ? key.as<std::string>()
                                 : std::to_string(key.as<int64_t>());
    require(keys.insert(text).second, place, ": a dict has the key ", text,
            " twice");
  }
  if (structure.kind == Kind::kLeaf || structure.kind == Kind::kNone) {
    require(structure.items.empty(), place, ": a leaf has items");
    return structure.kind == Kind::kLeaf ? 1 : 0;
  }
  size_t leaves = 0;
  for (const Structure& item : structure.items) {
    leaves += leaves_of(item, place, depth + 1);
  }
  return leaves;
}

void Checker::make(int value, std::string_view place) {
  require(is_value(value), place, ": is value %", value, " of ",
          graph_.values.size());
  require(!is_made_[static_cast<size_t>(value)], place, ": is value %", value,
          ", which is something else already");
  is_made_[static_cast<size_t>(value)] = true;
}

void Checker::check_inputs() {
  require(graph_.input_structure.kind == Structure::Kind::kTuple,
          "the structure of the inputs: is no tuple");
  const size_t leaves =
      leaves_of(graph_.input_structure, "the structure of the inputs", 1);
  require(leaves == graph_.inputs.size(), "the structure of the inputs: has ",
          leaves, " leaves for ", graph_.inputs.size(), " inputs");
  std::set<int> given = {0};  // variables; the degree is known
  for (const Input& input : graph_.inputs) {
    check_input(input, given);
    if (input.kind == Input::Kind::kTensor) {
      make(input.value, input.name);
    }
  }
  for (size_t i = 0; i < graph_.variables.size(); ++i) {
    require(given.contains(static_cast<int>(i)), "variable ", i, ", ",
            graph_.variables[i].name, ": no input gives it");
  }
}

void Checker::check_input(const Input& input, std::set<int>& given) const {
  using Kind = Input::Kind;
  require(input.name.size() <= kMaxNameBytes, "an input has a name of ",
          input.name.size(), " bytes");
  const auto check_variable = [&](int variable) {
    require(variable == -1 || (variable > 0 && is_variable(variable)),
            input.name, ": gives variable ", variable, " of ",
            graph_.variables.size());
    given.insert(variable);
  };
  check_variable(input.variable);
  require(input.variable < 0 || input.kind == Kind::kInt, input.name,
          ": gives a variable, but is no int");
  require(input.dims.size() <= kMaxDims, input.name, ": has ",
          input.dims.size(), " dims; there are at most ", kMaxDims);
  for (const InputDim& dim : input.dims) {
    require(dim.size >= 0, input.name, ": has a dim of size ", dim.size);
    check_variable(dim.variable);
  }
  const Argument& constant = input.constant;
  const bool fits = [&] {
    switch (input.kind) {
      case Kind::kTensor:
        return constant.is<std::monostate>();
      case Kind::kInt:
        return constant.is<int64_t>() ||
               (input.variable > 0 && constant.is<std::monostate>());
      case Kind::kFloat:
        return constant.is<double>() || constant.is<std::monostate>();
      case Kind::kBool:
        return constant.is<bool>();
      case Kind::kString:
        return constant.is<std::string>();
    }
    return false;
  }();
  require(fits, input.name, ": was ", kind_of(constant),
          " in the example, which does not fit its kind");
}

void Checker::check_weights() {
  // Constants have names of their own.
  std::set<std::pair<bool, std::string_view>> names;
  for (const Weight& weight : graph_.weights) {
    const bool is_constant = weight.kind == Weight::Kind::kConstant;
    const auto add = [&](const std::string& name) {
      require(!name.empty() && name.size() <= kMaxNameBytes,
              "a weight has a name of ", name.size(), " bytes");
      require(names.emplace(is_constant, name).second, to_string(weight.kind),
              " ", name, ": there are two of that name");
    };
    add(weight.name);
    for (const std::string& alias : weight.aliases) {
      add(alias);
    }
    const std::string place = concat(to_string(weight.kind), " ", weight.name);
    elements_of(weight.shape, place);
    require(-1 <= weight.split_dim &&
                weight.split_dim < static_cast<int64_t>(weight.shape.size()),
            place, ": is split along dim ", weight.split_dim, " of ",
            weight.shape.size());
    make(weight.value, place);
  }
}

void Checker::check_calls() {
  for (const Node& node : graph_.nodes) {
    ++call_;
    check_call(node);
  }
}

void Checker::check_call(const Node& node) {
  const std::string place = concat("call ", call_ - 1, ", ", node.op);
  const std::string refusal = why_not_callable(node.op, namespaces_);
  require(refusal.empty(), place, ": ", refusal);
  const auto op = find_op(node.op);
  require(op.has_value(), place,
          ": this process has no such op; load the library that registers it");
  const c10::FunctionSchema& schema = op->schema();
  require(!schema.is_vararg() && !schema.is_varret(), place,
          ": takes or gives any number of things, which no graph holds");
  require(node.arguments.size() == schema.arguments().size(), place, ": has ",
          node.arguments.size(), " arguments, and the op takes ",
          schema.arguments().size());
  require(node.results.size() == schema.returns().size(), place, ": has ",
          node.results.size(), " results, and the op gives ",
          schema.returns().size());
  for (size_t i = 0; i < node.arguments.size(); ++i) {
    const c10::Argument& declared = schema.arguments()[i];
    const std::string at = concat(place, ", argument ", declared.name());
    require(accepts(*declared.real_type(), node.arguments[i]), at, ": is ",
            kind_of(node.arguments[i]), ", and the op takes ",
            declared.real_type()->str());
    const bool is_written =
        declared.alias_info() != nullptr && declared.alias_info()->isWrite();
    require(!is_written || !node.arguments[i].is<WrappedNumber>(), at,
            ": is a wrapped number, and the op writes to it");
    check_length(node.arguments[i], declared, at);
    check_references(node.arguments[i], at);
  }
  for (size_t i = 0; i < node.results.size(); ++i) {
    check_result(node.results[i], *schema.returns()[i].real_type(),
                 concat(place, ", result ", i));
  }
}

/// Ops look into a list of a declared length (`int[2] stride`) unasked; one
/// item stands for all.
void Checker::check_length(const Argument& argument,
                           const c10::Argument& declared,
                           const std::string& place) const {
  const auto* list = std::get_if<ArgumentList>(&argument.what);
  const int32_t wanted = declared.N().value_or(1);
  if (list == nullptr || wanted == 1 || list->size() == 1) {
    return;
  }
  const auto& by_default = declared.default_value();
  const bool is_default = by_default.has_value() && by_default->isList() &&
                          by_default->toListRef().size() == list->size();
  require(list->size() == static_cast<size_t>(wanted) || is_default, place,
          ": has ", list->size(), " items, and the op takes ", wanted);
}

void Checker::check_references(const Argument& argument,
                               const std::string& place) {
  if (const auto* value = std::get_if<Value>(&argument.what)) {
    require(is_value(value->id), place, ": is value %", value->id, " of ",
            graph_.values.size());
    require(is_made_[static_cast<size_t>(value->id)], place, ": is value %",
            value->id, ", which nothing has given yet");
    last_call_[static_cast<size_t>(value->id)] = call_;
  } else if (const auto* ref = std::get_if<ExpressionRef>(&argument.what)) {
    require(0 <= ref->index &&
                static_cast<size_t>(ref->index) < graph_.expressions.size(),
            place, ": is expression $", ref->index, " of ",
            graph_.expressions.size());
  } else if (const auto* input = std::get_if<FloatInput>(&argument.what)) {
    require(0 <= input->input &&
                static_cast<size_t>(input->input) < graph_.inputs.size() &&
                graph_.inputs[static_cast<size_t>(input->input)].kind ==
                    Input::Kind::kFloat,
            place, ": is input ", input->input, ", which is no float input");
  } else if (const auto* wrapped = std::get_if<WrappedNumber>(&argument.what)) {
    require(wrapped->number.size() == 1 && is_number(wrapped->number[0]), place,
            ": wraps something that is no number");
    check_references(wrapped->number[0], place);
  } else if (const auto* list = std::get_if<ArgumentList>(&argument.what)) {
    check_count(*list, "items in one list");
    for (const Argument& item : *list) {
      check_references(item, place);
    }
  } else if (const auto* device = std::get_if<c10::Device>(&argument.what)) {
    require(device->type() == graph_.device || device->is_cpu() ||
                device->is_meta(),
            place, ": is on ", device->str(), ", and the graph on ",
            c10::DeviceTypeName(graph_.device, /*lower_case=*/true),
            "; it may be there, on cpu or on meta");
  }
}

void Checker::check_result(const Result& result, const c10::Type& type,
                           const std::string& place) {
  require(gives(type, result), place, ": does not fit the ", type.str(),
          " that the op gives");
  if (const auto* guard = std::get_if<Guard>(&result)) {
    check_references(guard->expected, place);
  } else if (const auto* value = std::get_if<Value>(&result)) {
    make_in_call(value->id, place);
  } else if (const auto* list = std::get_if<std::vector<Value>>(&result)) {
    check_count(*list, "items in one list");
    for (const Value& item : *list) {
      if (item.id != -1) {
        make_in_call(item.id, place);
      }
    }
  }
}

/// A call may give again what it was given: so do ops in place, and those that
/// find nothing to do.
void Checker::make_in_call(int value, const std::string& place) {
  require(is_value(value), place, ": is value %", value, " of ",
          graph_.values.size());
  const auto id = static_cast<size_t>(value);
  require(!is_made_[id] || last_call_[id] == call_, place, ": is value %",
          value, ", which is made already and not one of the arguments");
  is_made_[id] = true;
  last_call_[id] = call_;
}

void Checker::check_outputs() {
  constexpr std::string_view kPlace = "the structure of the output";
  const size_t leaves = leaves_of(graph_.output_structure, kPlace, 1);
  require(leaves == graph_.outputs.size(), kPlace, ": has ", leaves,
          " leaves for ", graph_.outputs.size(), " outputs");
  for (size_t i = 0; i < graph_.outputs.size(); ++i) {
    const Argument& output = graph_.outputs[i];
    const std::string place = concat("output ", i);
    require(!output.is<ArgumentList>() && !output.is<c10::Device>(), place,
            ": is ", kind_of(output), ", which no leaf is");
    check_references(output, place);
  }
}

}  // namespace

void check_graph(const Graph& graph, const std::string& subject,
                 std::span<const std::string> namespaces) {
  Checker(graph, subject, namespaces).run();
}

}  // namespace colonnade::trace::detail
