// colonnade/trace/detail/program.cpp
#include "colonnade/trace/detail/program.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/op_name.h"
#include "colonnade/trace/detail/values.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/List.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::IValue;
using c10::TypeKind;
using Kind = Operand::Kind;

/// What is inside of `T?`.
c10::TypePtr without_optional(const c10::TypePtr& type) {
  return type->kind() == TypeKind::OptionalType
             ? type->expectRef<c10::OptionalType>().getElementType()
             : type;
}

Tensor wrapped(const at::Scalar& number) {
  Tensor tensor = c10::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

IValue constant_of(const Argument& argument) {
  if (argument.is<bool>()) {
    return argument.as<bool>();
  }
  if (argument.is<int64_t>()) {
    return argument.as<int64_t>();
  }
  if (argument.is<double>()) {
    return argument.as<double>();
  }
  if (argument.is<c10::complex<double>>()) {
    return argument.as<c10::complex<double>>();
  }
  if (argument.is<std::string>()) {
    return argument.as<std::string>();
  }
  return {};
}

template <typename T>
IValue list_of(const ArgumentList& items) {
  c10::List<T> list;
  for (const Argument& item : items) {
    list.push_back(item.as<T>());
  }
  return list;
}

Operand compile_tensors(const ArgumentList& items, Kind kind) {
  Operand operand;
  operand.kind = kind;
  for (const Argument& item : items) {
    operand.values.push_back(item.is<Value>() ? item.as<Value>().id : -1);
  }
  return operand;
}

Operand compile_ints(const ArgumentList& items) {
  Operand operand;
  for (size_t i = 0; i < items.size(); ++i) {
    const Argument& item = items[i];
    operand.ints.push_back(item.is<int64_t>() ? item.as<int64_t>() : 0);
    if (item.is<ExpressionRef>()) {
      operand.computed.emplace_back(static_cast<int>(i),
                                    item.as<ExpressionRef>().index);
    }
  }
  if (operand.computed.empty()) {
    operand.constant = operand.ints;
  } else {
    operand.kind = Kind::kInts;
  }
  return operand;
}

Operand compile_list(const ArgumentList& items, const c10::TypePtr& element) {
  if (element->kind() == TypeKind::OptionalType &&
      without_optional(element)->kind() == TypeKind::TensorType) {
    return compile_tensors(items, Kind::kOptionalTensors);
  }
  Operand operand;
  switch (element->kind()) {
    case TypeKind::TensorType:
      return compile_tensors(items, Kind::kTensors);
    case TypeKind::FloatType:
      operand.constant = list_of<double>(items);
      return operand;
    case TypeKind::BoolType:
      operand.constant = list_of<bool>(items);
      return operand;
    case TypeKind::StringType:
      operand.constant = list_of<std::string>(items);
      return operand;
    case TypeKind::OptionalType:
    case TypeKind::NumberType: {
      c10::impl::GenericList list(element);
      for (const Argument& item : items) {
        list.push_back(constant_of(item));
      }
      operand.constant = list;
      return operand;
    }
    default:
      return compile_ints(items);
  }
}

/// Calls f(value id) for every value that an operand reads.
template <typename F>
void for_each_value(const Operand& operand, F&& f) {
  if (operand.kind == Kind::kValue || operand.kind == Kind::kLastValue) {
    f(operand.index);
  }
  for (const int value : operand.values) {
    if (value >= 0) {
      f(value);
    }
  }
}

void check_guard(const Instruction& instruction, const Guard& guard,
                 const IValue& value, const Sources& sources) {
  const Argument& expected = guard.expected;
  if (expected.is<bool>()) {
    check_arg(value.toBool() == expected.as<bool>(),
              "guard: ", c10::toString(instruction.op.operator_name()),
              " gives ", value.toBool() ? "true" : "false", ", but gave ",
              expected.as<bool>() ? "true" : "false",
              " when the graph was recorded, and the program went another way "
              "then; trace again with inputs like these");
    return;
  }
  const int64_t wanted = expected.is<ExpressionRef>()
                             ? sources.numbers[static_cast<size_t>(
                                   expected.as<ExpressionRef>().index)]
                             : expected.as<int64_t>();
  check_arg(value.toInt() == wanted,
            "guard: ", c10::toString(instruction.op.operator_name()), " gives ",
            value.toInt(), ", but the recorded program goes on with ", wanted,
            "; trace again with inputs like these");
}

}  // namespace

Program::Program(Graph graph, at::Device device)
    : graph_(std::move(graph)), device_(device) {
  const auto compile_all = [&](const std::vector<Node>& nodes,
                               std::vector<Instruction>& instructions) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      instructions.push_back(compile(nodes[i]));
      instructions.back().node = i;
    }
  };
  compile_all(graph_.prologue, prologue_);
  compile_all(graph_.nodes, main_);
  for (const Argument& output : graph_.outputs) {
    outputs_.push_back(compile(output, c10::AnyType::get()));
  }
  find_last_uses();
  find_direct_calls();
  find_sites();
}

Instruction Program::compile(const Node& node) const {
  const auto op = find_op(node.op);
  check_arg(op.has_value(), "Program: there is no op ", node.op,
            "; load the library that registers it");
  Instruction instruction(*op);
  const auto& arguments = instruction.op.schema().arguments();
  for (size_t i = 0; i < node.arguments.size(); ++i) {
    instruction.arguments.push_back(
        compile(node.arguments[i], arguments.at(i).type()));
  }
  instruction.results = node.results;
  return instruction;
}

Operand Program::compile(const Argument& argument,
                         const c10::TypePtr& declared) const {
  const c10::TypePtr type = without_optional(declared);
  Operand operand;
  if (argument.is<Value>()) {
    operand.kind = Kind::kValue;
    operand.index = argument.as<Value>().id;
  } else if (argument.is<ExpressionRef>()) {
    operand.kind = Kind::kInt;
    operand.index = argument.as<ExpressionRef>().index;
  } else if (argument.is<FloatInput>()) {
    operand.kind = Kind::kFloat;
    operand.index = argument.as<FloatInput>().input;
  } else if (argument.is<WrappedNumber>()) {
    Operand number =
        compile(argument.as<WrappedNumber>().number.at(0), c10::AnyType::get());
    if (number.kind == Kind::kConstant) {
      operand.constant = wrapped(number.constant.toScalar());
    } else {
      operand.kind = Kind::kNumber;
      operand.number = {std::move(number)};
    }
  } else if (argument.is<c10::Device>()) {
    const c10::Device device = argument.as<c10::Device>();
    operand.constant = device.type() == graph_.device ? device_ : device;
  } else if (argument.is<ArgumentList>()) {
    operand = compile_list(argument.as<ArgumentList>(),
                           type->expectRef<c10::ListType>().getElementType());
  } else {
    operand.constant = constant_of(argument);
  }
  return operand;
}

/// Marks where each value is asked for the last time, so that its memory can be
/// used again at once.
void Program::find_last_uses() {
  std::vector<bool> stays(graph_.values.size(), false);
  for (const Weight& weight : graph_.weights) {
    stays[static_cast<size_t>(weight.value)] = true;
  }
  for (const Instruction& instruction : prologue_) {
    for_each_result_value(instruction.results, [&](int id) {
      stays[static_cast<size_t>(id)] = true;
    });
  }
  std::vector<bool> asked(graph_.values.size(), false);
  const auto ask = [&](int id) { asked[static_cast<size_t>(id)] = true; };
  for (const Instruction& instruction : main_) {
    for_each_result_value(instruction.results, ask);
    for (const Operand& operand : instruction.arguments) {
      for_each_value(operand, ask);
    }
  }
  for (const Operand& output : outputs_) {
    for_each_value(output, ask);
  }
  for (size_t id = 0; id < stays.size(); ++id) {
    if (stays[id] && !asked[id]) {
      spent_.push_back(static_cast<int>(id));
    }
  }
  for (const Operand& output : outputs_) {
    for_each_value(output,
                   [&](int id) { stays[static_cast<size_t>(id)] = true; });
  }
  for (size_t i = main_.size(); i-- > 0;) {
    Instruction& instruction = main_[i];
    const auto last = [&](int id) {
      if (!stays[static_cast<size_t>(id)]) {
        stays[static_cast<size_t>(id)] = true;
        instruction.dead.push_back(id);
      }
    };
    for_each_result_value(instruction.results, last);
    for (Operand& operand : instruction.arguments) {
      for_each_value(operand, last);
    }
    // A value that is one argument, and no result, is handed to the op.
    for (Operand& operand : instruction.arguments) {
      const auto at = std::ranges::find(instruction.dead, operand.index);
      int uses = 0;
      const auto count = [&](int id) { uses += id == operand.index ? 1 : 0; };
      for_each_result_value(instruction.results, count);
      for (const Operand& other : instruction.arguments) {
        for_each_value(other, count);
      }
      if (operand.kind == Kind::kValue && at != instruction.dead.end() &&
          uses == 1) {
        operand.kind = Kind::kLastValue;
        instruction.dead.erase(at);
      }
    }
  }
}

/// What an op of an unknown library gave may lie in memory which that keeps, so
/// is not written to; nor is what was made of it.
std::vector<bool> Program::find_foreign() const {
  std::vector<bool> foreign(graph_.values.size(), false);
  for (const Instruction& instruction : main_) {
    const std::string& name = instruction.op.operator_name().name;
    bool is_foreign = !name.starts_with("aten::") &&
                      !name.starts_with("colonnade::") &&
                      !name.starts_with("mkldnn::");
    for (const Operand& operand : instruction.arguments) {
      for_each_value(operand, [&](int id) {
        is_foreign = is_foreign || foreign[static_cast<size_t>(id)];
      });
    }
    for_each_result_value(instruction.results, [&](int id) {
      foreign[static_cast<size_t>(id)] =
          is_foreign || foreign[static_cast<size_t>(id)];
    });
  }
  return foreign;
}

void Program::find_direct_calls() {
  const std::vector<bool> foreign = find_foreign();
  for (Instruction& instruction : main_) {
    std::vector<Operand>& arguments = instruction.arguments;
    DirectCall direct =
        find_direct_call(graph_.nodes[instruction.node].op, arguments);
    if (direct.call == nullptr) {
      continue;
    }
    const Value* result = std::get_if<Value>(&instruction.results.at(0));
    if (result == nullptr) {
      continue;
    }
    const auto first = static_cast<size_t>(arguments[0].index);
    const auto at = static_cast<size_t>(result->id);
    if (arguments[0].kind != Kind::kLastValue || foreign[first] ||
        graph_.values[first].dtype != graph_.values[at].dtype) {
      direct.overwrite = nullptr;
    }
    for (Operand& operand : arguments) {
      if (operand.kind == Kind::kLastValue) {
        operand.kind = Kind::kValue;
        instruction.dead.push_back(operand.index);
      }
    }
    instruction.direct = direct;
    instruction.result = result->id;
  }
}

/// Names our own ops, which make collectives, by their layer: that of the first
/// weight that they take, or that one of them was made of.
void Program::find_sites() {
  std::vector<std::string> weights(graph_.values.size());
  for (const Weight& weight : graph_.weights) {
    weights[static_cast<size_t>(weight.value)] = weight.name;
  }
  const auto weight_of = [&](const Instruction& instruction) {
    std::string name;
    for (const Operand& operand : instruction.arguments) {
      for_each_value(operand, [&](int id) {
        if (name.empty()) {
          name = weights[static_cast<size_t>(id)];
        }
      });
    }
    return name;
  };
  for (const Instruction& instruction : prologue_) {
    for_each_result_value(instruction.results, [&](int id) {
      weights[static_cast<size_t>(id)] = weight_of(instruction);
    });
  }
  constexpr std::string_view kOurs = "colonnade::";
  for (Instruction& instruction : main_) {
    const std::string& op = instruction.op.operator_name().name;
    if (!op.starts_with(kOurs)) {
      continue;
    }
    const std::string weight = weight_of(instruction);
    const size_t dot = weight.rfind('.');
    instruction.site = CallSite(
        dot == std::string::npos
            ? op.substr(kOurs.size())
            : concat("layer ", std::string_view(weight).substr(0, dot)));
  }
}

Frame::Frame(std::shared_ptr<const Program> program,
             const std::vector<Tensor>& weights)
    : program_(std::move(program)),
      values_(program_->graph().values.size()),
      bound_(values_.size(), false) {
  stack_.reserve(32);
  const Graph& graph = program_->graph();
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    set_weight(i, weights.at(i));
  }
  const c10::InferenceMode inference;
  const std::vector<IValue> no_inputs;
  const Numbers no_numbers;
  for (const Instruction& instruction : program_->prologue()) {
    execute(instruction, {values_, no_inputs, no_numbers});
    for_each_result_value(instruction.results, [&](int id) {
      bound_[static_cast<size_t>(id)] = true;
    });
  }
  for (const int value : program_->spent()) {
    values_[static_cast<size_t>(value)] = IValue();
  }
}

void Frame::set_weight(size_t weight, const Tensor& tensor) {
  const auto value =
      static_cast<size_t>(program_->graph().weights[weight].value);
  values_[value] = tensor;
  bound_[value] = true;
}

std::vector<IValue> Frame::run(const std::vector<IValue>& inputs,
                               const Numbers& numbers, RunObserver* observer) {
  const c10::InferenceMode inference;
  const Graph& graph = program_->graph();
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    if (graph.inputs[i].kind == Input::Kind::kTensor) {
      values_[static_cast<size_t>(graph.inputs[i].value)] = inputs[i];
    }
  }
  const Sources sources{values_, inputs, numbers};
  try {
    for (const Instruction& instruction : program_->instructions()) {
      if (observer != nullptr) [[unlikely]] {
        observer->before(instruction);
      }
      execute(instruction, sources);
      if (observer != nullptr) [[unlikely]] {
        observer->after(instruction);
      }
    }
  } catch (...) {
    forget();
    throw;
  }
  std::vector<IValue> outputs;
  outputs.reserve(program_->outputs().size());
  for (const Operand& output : program_->outputs()) {
    outputs.push_back(operand(output, sources));
  }
  // Outputs and inputs; everything else went where it was last asked for.
  for (const Operand& output : program_->outputs()) {
    if (output.index >= 0 && output.kind == Kind::kValue &&
        !bound_[static_cast<size_t>(output.index)]) {
      values_[static_cast<size_t>(output.index)] = IValue();
    }
  }
  for (const Input& input : graph.inputs) {
    if (input.kind == Input::Kind::kTensor) {
      values_[static_cast<size_t>(input.value)] = IValue();
    }
  }
  return outputs;
}

/// Drops all values but those of weights.
void Frame::forget() {
  for (size_t i = 0; i < values_.size(); ++i) {
    if (!bound_[i]) {
      values_[i] = IValue();
    }
  }
  stack_.clear();
}

void Frame::execute(const Instruction& instruction, const Sources& sources) {
  if (instruction.direct.call != nullptr) {
    execute_direct(instruction, sources);
    return;
  }
  stack_.clear();
  for (const Operand& argument : instruction.arguments) {
    switch (argument.kind) {
      case Kind::kConstant:
        stack_.push_back(argument.constant);
        break;
      case Kind::kValue:
        stack_.push_back(values_[static_cast<size_t>(argument.index)]);
        break;
      case Kind::kLastValue:
        stack_.push_back(
            std::move(values_[static_cast<size_t>(argument.index)]));
        break;
      default:
        stack_.push_back(operand(argument, sources));
    }
  }
  call(instruction);
  for (size_t i = 0; i < instruction.results.size(); ++i) {
    const Result& result = instruction.results[i];
    if (const auto* value = std::get_if<Value>(&result)) {
      values_[static_cast<size_t>(value->id)] = std::move(stack_[i]);
    } else if (const auto* list = std::get_if<std::vector<Value>>(&result)) {
      std::vector<Tensor> items = stack_[i].toTensorVector();
      check_arg(items.size() == list->size(),
                "replay: ", c10::toString(instruction.op.operator_name()),
                ": gave ", items.size(), " tensors, but ", list->size(),
                " when the graph was recorded");
      for (size_t k = 0; k < items.size(); ++k) {
        if ((*list)[k].id >= 0) {
          values_[static_cast<size_t>((*list)[k].id)] = std::move(items[k]);
        }
      }
    } else if (const auto* guard = std::get_if<Guard>(&result)) {
      check_guard(instruction, *guard, stack_[i], sources);
    }
  }
  for (const int value : instruction.dead) {
    values_[static_cast<size_t>(value)] = IValue();
  }
}

void Frame::call(const Instruction& instruction) {
  if (instruction.site.empty()) {
    instruction.op.callBoxed(&stack_);
    return;
  }
  const CallSiteScope site(instruction.site);
  instruction.op.callBoxed(&stack_);
}

void Frame::execute_direct(const Instruction& instruction,
                           const Sources& sources) {
  const DirectCall& direct = instruction.direct;
  const bool overwrites = direct.overwrite != nullptr &&
                          may_overwrite(instruction.arguments, sources);
  Tensor result = (overwrites ? direct.overwrite : direct.call)(
      instruction.arguments, sources);
  if (instruction.result >= 0) {
    values_[static_cast<size_t>(instruction.result)] = std::move(result);
  }
  for (const int value : instruction.dead) {
    values_[static_cast<size_t>(value)] = IValue();
  }
}

IValue Frame::operand(const Operand& operand, const Sources& sources) {
  switch (operand.kind) {
    case Kind::kConstant:
      return operand.constant;
    case Kind::kValue:
    case Kind::kLastValue:
      return values_[static_cast<size_t>(operand.index)];
    case Kind::kInt:
      return sources.numbers[static_cast<size_t>(operand.index)];
    case Kind::kFloat:
      return sources.inputs[static_cast<size_t>(operand.index)];
    case Kind::kNumber:
      return wrapped(this->operand(operand.number[0], sources).toScalar());
    case Kind::kTensors: {
      c10::List<Tensor> list;
      list.reserve(operand.values.size());
      for (const int value : operand.values) {
        list.push_back(value < 0
                           ? Tensor()
                           : values_[static_cast<size_t>(value)].toTensor());
      }
      return list;
    }
    case Kind::kOptionalTensors: {
      c10::List<std::optional<Tensor>> list;
      list.reserve(operand.values.size());
      for (const int value : operand.values) {
        list.push_back(value < 0
                           ? std::optional<Tensor>()
                           : values_[static_cast<size_t>(value)].toTensor());
      }
      return list;
    }
    case Kind::kInts: {
      std::vector<int64_t> ints = operand.ints;
      for (const auto& [place, expression] : operand.computed) {
        ints[static_cast<size_t>(place)] =
            sources.numbers[static_cast<size_t>(expression)];
      }
      return ints;
    }
  }
  return {};
}

}  // namespace colonnade::trace::detail
