// colonnade/trace/detail/recorder.cpp
#include "colonnade/trace/detail/recorder.h"

#include "colonnade/core/error.h"
#include "colonnade/random/detail/rank_random_key.h"
#include "colonnade/trace/detail/structure.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::DispatchKey;
using c10::FunctionSchema;
using c10::IValue;
using c10::OperatorHandle;
using torch::jit::Stack;

/// LibTorch has the key for such modes; it lies above autocast and autograd.
constexpr DispatchKey kRecordKey = DispatchKey::DeferredInit;

using WeakImpl =
    c10::weak_intrusive_ptr<c10::TensorImpl, at::UndefinedTensorImpl>;
using StorageId = const c10::StorageImpl*;

StorageId storage_of(const Tensor& tensor) {
  return tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl()
                              : nullptr;
}

ValueInfo info_of(const Tensor& tensor) {
  return {tensor.scalar_type(), tensor.sizes().vec(),
          static_cast<int64_t>(tensor.numel() * tensor.element_size())};
}

bool is_write(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

bool is_view(const FunctionSchema& schema) {
  return std::ranges::any_of(schema.returns(), [](const c10::Argument& result) {
    return result.alias_info() != nullptr && !result.alias_info()->isWrite();
  });
}

/// Ops that overwrite their first argument without reading it.
bool overwrites(std::string_view name) {
  constexpr std::array<std::string_view, 13> kNames = {
      "aten::copy_",      "aten::fill_",        "aten::zero_",
      "aten::normal_",    "aten::uniform_",     "aten::random_",
      "aten::bernoulli_", "aten::exponential_", "aten::geometric_",
      "aten::cauchy_",    "aten::log_normal_",  "aten::set_",
      "aten::resize_"};
  return std::ranges::find(kNames, name) != kNames.end();
}

bool makes_unwritten(std::string_view name) {
  return name.starts_with("aten::empty") || name.starts_with("aten::new_empty");
}

/// Calls f(tensor) for every tensor that an argument holds.
template <typename F>
void for_each_tensor(const IValue& value, F&& f) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) {
      f(value.toTensor());
    }
  } else if (value.isList()) {
    for (const IValue& item : value.toListRef()) {
      for_each_tensor(item, f);
    }
  }
}

class Recorder {
 public:
  Recorder(const std::vector<IValue>& inputs,
           const std::vector<NamedTensor>& tensors);

  void call(const OperatorHandle& op, Stack& stack);
  Recording finish(const IValue& output);

 private:
  struct Known {
    int value;
    WeakImpl alive;  // keeps the address from being used again
    StorageId storage;
  };
  /// What an `empty` made. Not the tensor itself: torch treats one that others
  /// hold differently.
  struct Unwritten {
    int value;
    std::vector<int64_t> sizes;
    std::vector<int64_t> strides;
  };

  int define(const Tensor& tensor);
  int use(const Tensor& tensor, std::string_view op, std::string_view argument);
  int use_stranger(const Tensor& tensor);
  void add_constant(int value, const Tensor& tensor);
  int alias_of_weight(const Tensor& tensor);
  void check_storage(const Known& known, const Tensor& tensor,
                     std::string_view op, std::string_view argument) const;
  void note_written(const FunctionSchema& schema, const Stack& stack,
                    size_t first);
  void make_constant(const Tensor& reader);
  Argument argument_of(const IValue& value, std::string_view op,
                       std::string_view name);
  Result result_of(const IValue& value, const std::string& op);
  void copy_if_written(int value, StorageId storage);
  void replace_value(int from, int to);

  Recording recording_;
  std::unordered_map<const c10::TensorImpl*, Known> known_;
  std::unordered_map<StorageId, Unwritten> unwritten_;
  std::unordered_map<StorageId, std::string> written_;  // by the first op
  std::vector<Tensor> given_;  // inputs and named tensors
  std::vector<StorageId> weight_storages_;
};

thread_local Recorder* current = nullptr;

Recorder::Recorder(const std::vector<IValue>& inputs,
                   const std::vector<NamedTensor>& tensors) {
  Graph& graph = recording_.graph;
  std::vector<IValue> leaves;
  graph.input_structure = flatten_inputs(inputs, leaves);
  const std::vector<std::string> names = leaf_names(graph.input_structure);
  for (size_t i = 0; i < leaves.size(); ++i) {
    const IValue& leaf = leaves[i];
    Input input;
    input.name = names[i];
    if (leaf.isTensor()) {
      check_arg(leaf.toTensor().defined(), "trace: ", input.name,
                " is undefined; give a tensor");
      const Tensor& tensor = leaf.toTensor();
      input.value = define(tensor);
      input.dtype = tensor.scalar_type();
      for (const int64_t size : tensor.sizes()) {
        input.dims.push_back({size, -1});
      }
      given_.push_back(tensor);
    } else if (leaf.isDouble()) {
      input.kind = Input::Kind::kFloat;
      input.constant.what = leaf.toDouble();
    } else if (leaf.isInt()) {
      input.kind = Input::Kind::kInt;
      input.constant.what = leaf.toInt();
    } else if (leaf.isBool()) {
      input.kind = Input::Kind::kBool;
      input.constant.what = leaf.toBool();
    } else {
      input.kind = Input::Kind::kString;
      input.constant.what = leaf.toStringRef();
    }
    graph.inputs.push_back(std::move(input));
  }
  for (const NamedTensor& named : tensors) {
    const auto found = known_.find(named.tensor.unsafeGetTensorImpl());
    if (found != known_.end()) {
      const auto weight =
          std::ranges::find(graph.weights, found->second.value, &Weight::value);
      check_arg(weight != graph.weights.end(), "trace: ", named.name,
                " is itself an input; give a copy of it as the input");
      weight->aliases.push_back(named.name);
      continue;
    }
    graph.weights.push_back(
        {named.is_parameter ? Weight::Kind::kParameter : Weight::Kind::kBuffer,
         named.name,
         {},
         define(named.tensor)});
    given_.push_back(named.tensor);
    recording_.weights.push_back(named.tensor.detach());
    weight_storages_.push_back(storage_of(named.tensor));
  }
}

/// The number of a tensor that is new, or is a known one again.
int Recorder::define(const Tensor& tensor) {
  const auto [at, is_new] = known_.try_emplace(
      tensor.unsafeGetTensorImpl(),
      Known{static_cast<int>(recording_.graph.values.size()),
            WeakImpl(tensor.getIntrusivePtr()), storage_of(tensor)});
  if (is_new) {
    recording_.graph.values.push_back(info_of(tensor));
  } else {
    at->second.storage = storage_of(tensor);
  }
  return at->second.value;
}

int Recorder::use(const Tensor& tensor, std::string_view op,
                  std::string_view argument) {
  const auto found = known_.find(tensor.unsafeGetTensorImpl());
  if (found == known_.end()) {
    return use_stranger(tensor);
  }
  check_storage(found->second, tensor, op, argument);
  return found->second.value;
}

void Recorder::check_storage(const Known& known, const Tensor& tensor,
                             std::string_view op,
                             std::string_view argument) const {
  if (known.storage == storage_of(tensor)) {
    return;
  }
  const auto& weights = recording_.graph.weights;
  const auto weight = std::ranges::find(weights, known.value, &Weight::value);
  std::string name = concat("value %", known.value);
  std::string held;
  if (weight != weights.end()) {
    name = weight->name;
    held = concat(
        ": it held ",
        show_tensor(
            recording_.weights[static_cast<size_t>(weight - weights.begin())]),
        " and holds ", show_tensor(tensor));
  }
  throw InvalidArgument(
      concat("trace: ", op, ", argument ", argument, ": ", name,
             " was given other data in forward, behind the dispatcher "
             "(set_data)",
             held,
             "; compute with the new tensor itself, or copy_ into a "
             "buffer"));
}

/// A tensor that no call has made: a constant, or another view of a weight.
int Recorder::use_stranger(const Tensor& tensor) {
  const int weight = alias_of_weight(tensor);
  if (weight >= 0) {
    return weight;
  }
  const int value = define(tensor);
  add_constant(value, tensor);
  return value;
}

void Recorder::add_constant(int value, const Tensor& tensor) {
  std::string name = concat(
      "constant", std::ranges::count(recording_.graph.weights,
                                     Weight::Kind::kConstant, &Weight::kind));
  recording_.graph.weights.push_back(
      {Weight::Kind::kConstant, std::move(name), {}, value});
  recording_.weights.push_back(tensor.detach().clone());
  weight_storages_.push_back(nullptr);
}

/// A view of a weight that was made outside of forward is made in the graph.
int Recorder::alias_of_weight(const Tensor& tensor) {
  const StorageId storage = storage_of(tensor);
  const auto found = std::ranges::find(weight_storages_, storage);
  if (storage == nullptr || found == weight_storages_.end()) {
    return -1;
  }
  const size_t index = static_cast<size_t>(found - weight_storages_.begin());
  if (recording_.weights[index].scalar_type() != tensor.scalar_type()) {
    return -1;
  }
  const auto ints = [](at::IntArrayRef list) {
    ArgumentList result;
    for (const int64_t item : list) {
      result.push_back({item});
    }
    return Argument{std::move(result)};
  };
  const int value = define(tensor);
  recording_.graph.nodes.push_back(
      {"aten::as_strided",
       {{Value{recording_.graph.weights[index].value}},
        ints(tensor.sizes()),
        ints(tensor.strides()),
        {tensor.storage_offset()}},
       {Value{value}}});
  return value;
}

/// What an `empty` made was filled by nobody whom the graph knows: it was
/// filled behind the dispatcher, so is a constant.
///
/// reader  a tensor in that memory
void Recorder::make_constant(const Tensor& reader) {
  const auto found = unwritten_.find(storage_of(reader));
  if (found == unwritten_.end()) {
    return;
  }
  const Unwritten made = std::move(found->second);
  unwritten_.erase(found);
  for (Node& node : recording_.graph.nodes) {
    for (Result& result : node.results) {
      if (result == Result(Value{made.value})) {
        result = std::monostate();
      }
    }
  }
  Tensor whole = at::empty({0}, reader.options());
  whole.set_(reader.storage(), 0, made.sizes, made.strides);
  add_constant(made.value, whole);
}

/// Keeps account of what the call writes, and of memory that it reads though
/// nothing was written there.
void Recorder::note_written(const FunctionSchema& schema, const Stack& stack,
                            size_t first) {
  const bool view = is_view(schema);
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::Argument& argument = schema.arguments()[i];
    const bool writes = is_write(argument);
    const bool only_writes =
        writes && (argument.is_out() || overwrites(schema.name()));
    for_each_tensor(stack[first + i], [&](const Tensor& tensor) {
      const StorageId storage = storage_of(tensor);
      if (only_writes) {
        unwritten_.erase(storage);
      } else if (!view || writes) {
        make_constant(tensor);
      }
      if (writes) {
        written_.try_emplace(storage, schema.name());
      }
    });
  }
}

Argument Recorder::argument_of(const IValue& value, std::string_view op,
                               std::string_view name) {
  if (value.isNone() || value.isGenerator()) {
    return {};  // a generator is the rank's own, which replay finds too
  }
  if (value.isTensor()) {
    const Tensor& tensor = value.toTensor();
    if (!tensor.defined()) {
      return {};
    }
    if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
      const at::Scalar number = tensor.item();
      return {WrappedNumber{{argument_of(number, op, name)}}};
    }
    return {Value{use(tensor, op, name)}};
  }
  if (value.isBool()) {
    return {value.toBool()};
  }
  if (value.isInt()) {
    return {value.toInt()};
  }
  if (value.isDouble()) {
    return {value.toDouble()};
  }
  if (value.isComplexDouble()) {
    return {value.toComplexDouble()};
  }
  if (value.isString()) {
    return {value.toStringRef()};
  }
  if (value.isDevice()) {
    return {value.toDevice()};
  }
  if (value.isList()) {
    ArgumentList list;
    for (const IValue& item : value.toListRef()) {
      list.push_back(argument_of(item, op, name));
    }
    return {std::move(list)};
  }
  throw InvalidArgument(concat("trace: ", op, ", argument ", name, ": a ",
                               value.tagKind(),
                               ", which a graph cannot hold; call an op that "
                               "takes tensors and numbers"));
}

Result Recorder::result_of(const IValue& value, const std::string& op) {
  if (value.isTensor()) {
    if (!value.toTensor().defined()) {
      return {};
    }
    return Value{define(value.toTensor())};
  }
  if (value.isTensorList()) {
    std::vector<Value> values;
    for (const Tensor& tensor : value.toTensorVector()) {
      values.push_back({tensor.defined() ? define(tensor) : -1});
    }
    return values;
  }
  if (value.isBool()) {
    return Guard{{value.toBool()}};
  }
  if (value.isInt()) {
    return Guard{{value.toInt()}};
  }
  if (value.isDouble()) {
    recording_.escapes.push_back(
        {recording_.graph.nodes.size(), value.toDouble()});
    return {};
  }
  check_arg(value.isNone(), "trace: ", op, ": gives a ", value.tagKind(),
            ", which leaves the graph; keep the value a tensor");
  return {};
}

void Recorder::call(const OperatorHandle& op, Stack& stack) {
  const FunctionSchema& schema = op.schema();
  const size_t first = stack.size() - schema.arguments().size();
  Node node;
  node.op = c10::toString(op.operator_name());
  note_written(schema, stack, first);
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    node.arguments.push_back(
        argument_of(stack[first + i], node.op, schema.arguments()[i].name()));
  }
  std::vector<Tensor> changed;  // whose storage the call may replace
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    if (is_write(schema.arguments()[i])) {
      for_each_tensor(stack[first + i],
                      [&](const Tensor& x) { changed.push_back(x); });
    }
  }
  const uint64_t draws = colonnade::detail::random_draws();
  op.callBoxed(stack);
  if (colonnade::detail::random_draws() != draws &&
      !std::exchange(recording_.graph.is_random, true)) {
    recording_.random_op = node.op;
  }
  for (const Tensor& tensor : changed) {
    define(tensor);
  }
  for (size_t i = stack.size() - schema.returns().size(); i < stack.size();
       ++i) {
    node.results.push_back(result_of(stack[i], node.op));
  }
  if (makes_unwritten(schema.name()) && stack.back().isTensor() &&
      stack.back().toTensor().numel() > 0) {
    const Tensor& made = stack.back().toTensor();
    unwritten_.insert_or_assign(
        storage_of(made), Unwritten{std::get<Value>(node.results.back()).id,
                                    made.sizes().vec(), made.strides().vec()});
  }
  recording_.graph.nodes.push_back(std::move(node));
}

void Recorder::replace_value(int from, int to) {
  const auto visit = [&](auto&& self, Argument& argument) -> void {
    if (auto* value = std::get_if<Value>(&argument.what)) {
      value->id = value->id == from ? to : value->id;
    } else if (auto* list = std::get_if<ArgumentList>(&argument.what)) {
      for (Argument& item : *list) {
        self(self, item);
      }
    }
  };
  for (Node& node : recording_.graph.nodes) {
    for (Argument& argument : node.arguments) {
      visit(visit, argument);
    }
    for (Result& result : node.results) {  // of an op in place
      if (result == Result(Value{from})) {
        result = Value{to};
      }
    }
  }
  for (Argument& output : recording_.graph.outputs) {
    visit(visit, output);
  }
}

/// Puts a copy in front of the graph, so that what it writes stays its own.
void Recorder::copy_if_written(int value, StorageId storage) {
  if (!written_.contains(storage)) {
    return;
  }
  Graph& graph = recording_.graph;
  const int copy = static_cast<int>(graph.values.size());
  graph.values.push_back(graph.values[static_cast<size_t>(value)]);
  replace_value(value, copy);
  for (Escape& escape : recording_.escapes) {
    ++escape.node;
  }
  graph.nodes.insert(graph.nodes.begin(),
                     Node{"aten::clone", {{Value{value}}, {}}, {Value{copy}}});
}

Recording Recorder::finish(const IValue& output) {
  Graph& graph = recording_.graph;
  std::vector<IValue> leaves;
  graph.output_structure = flatten(output, leaves, "trace: the output");
  for (const IValue& leaf : leaves) {
    if (leaf.isTensor()) {
      make_constant(leaf.toTensor());
    }
    graph.outputs.push_back(argument_of(leaf, "the output", "of forward"));
  }
  for (const Tensor& tensor : given_) {
    check_storage(known_.at(tensor.unsafeGetTensorImpl()), tensor,
                  "the end of forward", "-");
  }
  // Constants are told by the storage of the tensor that forward used.
  std::unordered_map<int, StorageId> storages;
  for (const auto& [impl, known] : known_) {
    storages[known.value] = known.storage;
  }
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    Weight& weight = graph.weights[i];
    const StorageId storage = storages.at(weight.value);
    if (weight.kind == Weight::Kind::kConstant) {
      copy_if_written(weight.value, storage);
    } else if (written_.contains(storage)) {
      check_arg(weight.kind == Weight::Kind::kBuffer,
                "trace: ", written_.at(storage),
                ": forward writes to the parameter ", weight.name,
                "; make it a buffer, which is then a state of "
                "the traced model");
      weight.kind = Weight::Kind::kState;
    }
  }
  for (const Input& input : std::vector<Input>(graph.inputs)) {
    if (input.kind == Input::Kind::kTensor) {
      copy_if_written(input.value, storages.at(input.value));
    }
  }
  return std::move(recording_);
}

void record_call(const OperatorHandle& op, c10::DispatchKeySet /*keys*/,
                 Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard once(kRecordKey);
  // torch::tensor makes a constant, and says so by shutting the tracer out.
  if (current == nullptr ||
      c10::impl::tls_is_dispatch_key_excluded(DispatchKey::Tracer)) {
    op.callBoxed(stack);
  } else {
    current->call(op, *stack);
  }
}

TORCH_LIBRARY_IMPL(_, DeferredInit, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&record_call>());
}

/// Makes a recorder the thread's own for the time of a recording.
class RecordingScope {
 public:
  explicit RecordingScope(Recorder& recorder) : key_(kRecordKey) {
    check_arg(current == nullptr,
              "trace: called inside a recording; trace one model at a time");
    current = &recorder;
  }
  ~RecordingScope() { current = nullptr; }
  RecordingScope(const RecordingScope&) = delete;
  RecordingScope& operator=(const RecordingScope&) = delete;

 private:
  c10::impl::IncludeDispatchKeyGuard key_;
};

IValue copy_of(const IValue& value) {
  std::vector<IValue> leaves;
  const Structure structure = flatten(value, leaves, "trace: an input");
  for (IValue& leaf : leaves) {
    if (leaf.isTensor() && leaf.toTensor().defined()) {
      leaf = leaf.toTensor().detach().clone();
    }
  }
  return unflatten(structure, leaves);
}

}  // namespace

Recording record(const Forward& forward, const std::vector<IValue>& inputs,
                 const std::vector<NamedTensor>& tensors) {
  const std::vector<IValue> copies = copy_inputs(inputs);
  Recorder recorder(copies, tensors);
  IValue output;
  {
    const RecordingScope scope(recorder);
    output = forward(copies);
  }
  return recorder.finish(output);
}

std::vector<IValue> copy_inputs(const std::vector<IValue>& inputs) {
  std::vector<IValue> copies;
  for (const IValue& input : inputs) {
    copies.push_back(copy_of(input));
  }
  return copies;
}

std::string show_tensor(const Tensor& tensor) {
  if (!tensor.defined()) {
    return "undefined";
  }
  constexpr int64_t kShown = 4;
  std::string items;
  const Tensor flat = tensor.detach().flatten();
  for (int64_t i = 0; i < std::min(kShown, flat.numel()); ++i) {
    items +=
        (i == 0 ? "" : ", ") + concat(flat[i].item().toComplexDouble().real());
  }
  if (flat.numel() > kShown) {
    items += ", …";
  }
  return concat(c10::toString(tensor.scalar_type()), " ", tensor.sizes(), " (",
                items, ")");
}

}  // namespace colonnade::trace::detail
