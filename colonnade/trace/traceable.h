// colonnade/trace/traceable.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/core/error.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace torch::nn {
class AnyModule;
class SequentialImpl;
}  // namespace torch::nn

namespace colonnade::trace {

/// A model as tracing sees it: a module, and its forward on values of any kind.
struct Traceable {
  std::shared_ptr<torch::nn::Module> module;
  std::function<c10::IValue(const std::vector<c10::IValue>&)> forward;
};

/// Makes the model on the rank that calls it.
using MakeTraceable = std::function<Traceable()>;

namespace detail {

/// What a class's forward takes.
template <typename Method>
struct ForwardOf;
template <typename Class, typename Out, typename... In>
struct ForwardOf<Out (Class::*)(In...)> {
  using Inputs = std::tuple<std::decay_t<In>...>;
};
template <typename Class, typename Out, typename... In>
struct ForwardOf<Out (Class::*)(In...) const> {
  using Inputs = std::tuple<std::decay_t<In>...>;
};

/// What an argument of forward may be.
template <typename T>
struct IsValue : std::bool_constant<std::is_arithmetic_v<T>> {};
template <>
struct IsValue<at::Tensor> : std::true_type {};
template <>
struct IsValue<std::string> : std::true_type {};
template <typename T>
struct IsValue<std::optional<T>> : IsValue<T> {};
template <typename T>
struct IsValue<std::vector<T>> : IsValue<T> {};
template <typename T>
struct IsValue<c10::List<T>> : IsValue<T> {};
template <typename K, typename V>
struct IsValue<c10::Dict<K, V>> : IsValue<V> {};
template <typename... T>
struct IsValue<std::tuple<T...>>
    : std::bool_constant<(IsValue<T>::value && ...)> {};

template <typename T>
T value_of(const c10::IValue& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.toBool();
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(value.toInt());
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value.toDouble());
  } else {
    return value.to<T>();
  }
}

/// Calls forward with the first sizeof...(I) of its arguments, where it can be
/// called so: the others have defaults.
template <typename Impl, typename Inputs, size_t... I>
bool call_with(Impl& impl, const std::vector<c10::IValue>& inputs,
               c10::IValue& output, std::index_sequence<I...>) {
  if constexpr ((IsValue<std::tuple_element_t<I, Inputs>>::value && ...) &&
                requires {
                  impl.forward(
                      std::declval<std::tuple_element_t<I, Inputs>>()...);
                }) {
    if (inputs.size() == sizeof...(I)) {
      output = c10::IValue(impl.forward(
          value_of<std::tuple_element_t<I, Inputs>>(inputs[I])...));
      return true;
    }
  }
  return false;
}

template <typename Impl, size_t... Count>
c10::IValue call_forward(Impl& impl, const std::vector<c10::IValue>& inputs,
                         std::index_sequence<Count...>) {
  using Inputs = typename ForwardOf<decltype(&Impl::forward)>::Inputs;
  c10::IValue output;
  const bool called =
      (call_with<Impl, Inputs>(impl, inputs, output,
                               std::make_index_sequence<Count>()) ||
       ...);
  check_arg(called, "trace: forward of the model takes ",
            std::tuple_size_v<Inputs>, " arguments, and inputs has ",
            inputs.size(), "; give one for each that has no default");
  return output;
}

}  // namespace detail

/// A module whose forward is one function of tensors, ints, floats, bools,
/// strings, and tuples, vectors, dicts and optionals of them.
template <typename Impl>
  requires std::derived_from<Impl, torch::nn::Module> Traceable
  make_traceable(std::shared_ptr<Impl> module) {
    static_assert(
        requires {
          typename detail::ForwardOf<decltype(&Impl::forward)>::Inputs;
        },
        "tracing needs a module with exactly one forward, which is no "
        "template; "
        "give a Traceable, which says how to call the module");
    using Inputs = typename detail::ForwardOf<decltype(&Impl::forward)>::Inputs;
    return {module, [module](const std::vector<c10::IValue>& inputs) {
              return detail::call_forward(
                  *module, inputs,
                  std::make_index_sequence<std::tuple_size_v<Inputs> + 1>());
            }};
  }

/// A Sequential of modules that take a tensor and give one.
COLONNADE_API Traceable
make_traceable(std::shared_ptr<torch::nn::SequentialImpl> module);

template <typename Impl>
Traceable make_traceable(const torch::nn::ModuleHolder<Impl>& holder) {
  return make_traceable(holder.ptr());
}

inline Traceable make_traceable(Traceable traceable) {
  return traceable;
}

/// An AnyModule of up to four tensors that gives a tensor.
COLONNADE_API Traceable make_traceable(const torch::nn::AnyModule& module);

/// A function that makes a model, for tracing: of a ModuleHolder, a shared_ptr
/// of a module, an AnyModule or a Traceable.
template <std::invocable Func>
  requires(!std::convertible_to<Func, MakeTraceable>)
MakeTraceable traceable_maker(Func func) {
  return [func = std::move(func)]() mutable { return make_traceable(func()); };
}
inline MakeTraceable traceable_maker(MakeTraceable make) {
  return make;
}

}  // namespace colonnade::trace
