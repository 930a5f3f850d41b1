// colonnade/checkpoint/state_dict.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace torch {
namespace nn {
class Module;
}
namespace optim {
class Optimizer;
}
}  // namespace torch

namespace colonnade {

class StateValue;

/// A tensor of a state dict, with what makes it a shard. A tensor without
/// attributes is replicated if it is equal on all tensor-parallel ranks when
/// saved, and belongs to its rank otherwise.
struct StateTensor {
  at::Tensor tensor;
  std::optional<TensorParallelAttributes> attributes;
};

/// A key of a state dict: a string or an integer.
using StateKey = std::variant<std::string, int64_t>;

/// For people and for names: the string, or the integer in decimal.
COLONNADE_API std::string to_string(const StateKey& key);

/// An ordered, nested dictionary: what `save` writes and `load` returns.
///
/// Values are tensors, numbers, strings, bools, nothing, lists, tuples and
/// further dicts. Copies share their tensors.
class COLONNADE_API StateDict {
 public:
  using Entry = std::pair<StateKey, StateValue>;

  StateDict();
  StateDict(const StateDict&);
  StateDict(StateDict&&) noexcept;
  StateDict& operator=(const StateDict&);
  StateDict& operator=(StateDict&&) noexcept;
  ~StateDict();

  /// The value at `key`, made (as nothing) where there is none.
  StateValue& operator[](const StateKey& key);
  /// The value at `key`; InvalidArgument lists the keys there are.
  const StateValue& at(const StateKey& key) const;
  bool contains(const StateKey& key) const;
  void erase(const StateKey& key);

  size_t size() const;
  bool empty() const { return size() == 0; }
  std::vector<Entry>::const_iterator begin() const;
  std::vector<Entry>::const_iterator end() const;
  std::vector<Entry>::iterator begin();
  std::vector<Entry>::iterator end();

 private:
  std::vector<Entry> entries_;  // in order of insertion
};

/// The items of a list or a tuple, which load as what they were saved as.
struct StateList {
  std::vector<StateValue> items;
  bool is_tuple = false;
};

/// One value of a state dict.
class COLONNADE_API StateValue {
 public:
  using Variant = std::variant<std::monostate, bool, int64_t, double,
                               std::string, StateTensor, StateList, StateDict>;

  StateValue() = default;  ///< Nothing: Python's None.
  StateValue(bool value) : value_(value) {}
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  StateValue(T value) : value_(static_cast<int64_t>(value)) {}
  template <std::floating_point T>
  StateValue(T value) : value_(static_cast<double>(value)) {}
  StateValue(std::string value) : value_(std::move(value)) {}
  StateValue(const char* value) : value_(std::string(value)) {}
  /// Takes the tensor's tensor-parallel attributes along, where it has any.
  StateValue(at::Tensor tensor);
  StateValue(StateTensor tensor) : value_(std::move(tensor)) {}
  StateValue(StateList list) : value_(std::move(list)) {}
  StateValue(StateDict dict) : value_(std::move(dict)) {}

  bool is_none() const {
    return std::holds_alternative<std::monostate>(value_);
  }
  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(value_);
  }

  // The value as what it is; InvalidArgument where it is something else.
  bool to_bool() const;
  int64_t to_int() const;
  double to_double() const;  ///< An integer too.
  const std::string& to_string() const;
  const at::Tensor& to_tensor() const;
  const StateTensor& to_state_tensor() const;
  const StateList& to_list() const;
  const StateDict& to_dict() const;
  StateDict& to_dict();

  /// Shorthand for to_dict()[key]; nothing becomes a dict.
  StateValue& operator[](const StateKey& key);

  const Variant& variant() const { return value_; }
  Variant& variant() { return value_; }

 private:
  Variant value_;
};

/// A module's parameters and buffers under their qualified names, sharing
/// memory with the module, with their tensor-parallel attributes.
COLONNADE_API StateDict state_dict(const torch::nn::Module& module);

/// An optimizer's state (SGD, Adam, AdamW) under the names of `module`'s
/// parameters: {"state": {name: {…}}, "param_groups": [{…, "params":
/// [names]}]}. State of a parameter's shape takes the parameter's attributes.
///
/// Errors  InvalidArgument names a parameter that is not `module`'s, and an
///         optimizer of another class.
COLONNADE_API StateDict state_dict(const torch::optim::Optimizer& optimizer,
                                   const torch::nn::Module& module);

/// Copies `state` into `module`. Missing, unexpected and mismatched keys are
/// one InvalidArgument that lists all with both shapes; nothing is changed
/// then.
COLONNADE_API void load_state_dict(torch::nn::Module& module,
                                   const StateDict& state);

/// Puts back what `state_dict(optimizer, module)` gave: options and state.
COLONNADE_API void load_state_dict(torch::optim::Optimizer& optimizer,
                                   const torch::nn::Module& module,
                                   const StateValue& state);

}  // namespace colonnade
