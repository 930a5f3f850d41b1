// colonnade/checkpoint/optimizer_state.cpp
#include "colonnade/checkpoint/detail/model_tensors.h"
#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/error.h"

#include <torch/nn/module.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <concepts>
#include <memory>
#include <set>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using Betas = std::tuple<double, double>;
using torch::optim::AdamOptions;
using torch::optim::AdamParamState;
using torch::optim::AdamWOptions;
using torch::optim::AdamWParamState;
using torch::optim::Optimizer;
using torch::optim::SGDOptions;
using torch::optim::SGDParamState;

template <typename T, typename... Types>
concept OneOf = (std::same_as<std::remove_const_t<T>, Types> || ...);

// The fields of torch's classes, under the names that Python gives them.
template <OneOf<SGDOptions> T, typename Visit>
void visit_fields(T& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("momentum", options.momentum());
  visit("dampening", options.dampening());
  visit("weight_decay", options.weight_decay());
  visit("nesterov", options.nesterov());
}

template <OneOf<AdamOptions, AdamWOptions> T, typename Visit>
void visit_fields(T& options, Visit&& visit) {
  visit("lr", options.lr());
  visit("betas", options.betas());
  visit("eps", options.eps());
  visit("weight_decay", options.weight_decay());
  visit("amsgrad", options.amsgrad());
}

template <OneOf<SGDParamState> T, typename Visit>
void visit_fields(T& state, Visit&& visit) {
  visit("momentum_buffer", state.momentum_buffer());
}

template <OneOf<AdamParamState, AdamWParamState> T, typename Visit>
void visit_fields(T& state, Visit&& visit) {
  visit("step", state.step());
  visit("exp_avg", state.exp_avg());
  visit("exp_avg_sq", state.exp_avg_sq());
  visit("max_exp_avg_sq", state.max_exp_avg_sq());
}

template <typename OptionsType, typename StateType>
struct Kind {
  using Options = OptionsType;
  using State = StateType;
};

/// Calls `f` with the kind of the optimizer.
template <typename F>
auto with_kind(const Optimizer& optimizer, const char* what, F&& f) {
  if (dynamic_cast<const torch::optim::SGD*>(&optimizer) != nullptr) {
    return f(Kind<SGDOptions, SGDParamState>());
  }
  if (dynamic_cast<const torch::optim::Adam*>(&optimizer) != nullptr) {
    return f(Kind<AdamOptions, AdamParamState>());
  }
  check_arg(dynamic_cast<const torch::optim::AdamW*>(&optimizer) != nullptr,
            what, ": the optimizer is none of SGD, Adam and AdamW");
  return f(Kind<AdamWOptions, AdamWParamState>());
}

/// The first name of each of a module's parameters, by identity.
class ParameterNames {
 public:
  ParameterNames(const torch::nn::Module& module, const char* what)
      : what_(what) {
    for (const detail::ModelTensor& item : detail::model_tensors(module)) {
      names_.emplace(item.tensor.unsafeGetTensorImpl(), item.name);
    }
  }

  /// The names of all groups' parameters; InvalidArgument for a stranger.
  std::vector<std::vector<std::string>> of_groups(
      const Optimizer& optimizer) const {
    std::vector<std::vector<std::string>> groups;
    for (const auto& group : optimizer.param_groups()) {
      auto& names = groups.emplace_back();
      for (const at::Tensor& parameter : group.params()) {
        const auto found = names_.find(parameter.unsafeGetTensorImpl());
        check_arg(found != names_.end(), what_, ": parameter ", names.size(),
                  " of the optimizer's group ", groups.size() - 1,
                  ", of shape ", parameter.sizes(),
                  ", is not one of the module's");
        names.push_back(found->second);
      }
    }
    return groups;
  }

 private:
  const char* what_;
  std::unordered_map<const void*, std::string> names_;
};

StateValue option_value(double value) {
  return value;
}
StateValue option_value(bool value) {
  return value;
}
StateValue option_value(const Betas& value) {
  return StateList{{std::get<0>(value), std::get<1>(value)}, true};
}

void set_option(double& to, const StateValue& from) {
  to = from.to_double();
}
void set_option(bool& to, const StateValue& from) {
  to = from.to_bool();
}
void set_option(Betas& to, const StateValue& from) {
  const auto& items = from.to_list().items;
  check_arg(items.size() == 2, "betas: has ", items.size(), " numbers, not 2");
  to = {items[0].to_double(), items[1].to_double()};
}

template <typename State>
StateDict state_of(const State& state, const at::Tensor& parameter) {
  StateDict result;
  visit_fields(
      state, [&]<typename Field>(const char* name, const Field& field) {
        if constexpr (std::same_as<Field, at::Tensor>) {
          if (field.defined()) {
            auto attributes = field.sizes() == parameter.sizes()
                                  ? get_tensor_parallel_attributes(parameter)
                                  : std::nullopt;
            result[name] = StateTensor{field.detach(), std::move(attributes)};
          }
        } else {
          result[name] = field;
        }
      });
  return result;
}

/// A copy of a saved tensor that fits the parameter.
at::Tensor copy_for(const at::Tensor& parameter, const StateTensor& saved) {
  const auto attributes = get_tensor_parallel_attributes(parameter);
  check_arg(saved.tensor.defined() && saved.tensor.sizes() == parameter.sizes(),
            "has shape ", saved.tensor.sizes(), ", the parameter ",
            parameter.sizes());
  check_arg(!saved.attributes.has_value() || !attributes.has_value() ||
                saved.attributes->spec == attributes->spec,
            "is another part of the whole than the parameter");
  return saved.tensor.detach().to(parameter.options().requires_grad(false),
                                  /*non_blocking=*/false, /*copy=*/true);
}

/// Runs `step`, and puts `subject` in front of what it throws.
template <typename Step>
void with_subject(const std::string& subject, Step&& step) {
  try {
    step();
  } catch (const InvalidArgument& error) {
    throw InvalidArgument(subject + ": " + error.what());
  }
}

/// Sets those fields of `object` that `saved` has. A tensor may be missing;
/// nothing else may, and nothing may be left over.
template <typename Object>
void set_fields(Object& object, const StateDict& saved,
                const std::string& subject, const at::Tensor& parameter,
                std::set<std::string> known) {
  visit_fields(object, [&]<typename Field>(const char* name, Field& field) {
    known.insert(name);
    with_subject(subject + name, [&] {
      if constexpr (std::same_as<Field, at::Tensor>) {
        if (saved.contains(name)) {
          field = copy_for(parameter, saved.at(name).to_state_tensor());
        }
      } else {
        check_arg(saved.contains(name), "is missing");
        if constexpr (std::same_as<Field, int64_t>) {
          field = saved.at(name).to_int();
        } else {
          set_option(field, saved.at(name));
        }
      }
    });
  });
  for (const auto& entry : saved) {
    check_arg(known.contains(to_string(entry.first)), subject,
              to_string(entry.first),
              ": is nothing that this optimizer has; was the state saved from "
              "another class?");
  }
}

StateValue names_value(const std::vector<std::string>& names) {
  StateList list;
  for (const std::string& name : names) {
    list.items.emplace_back(name);
  }
  return list;
}

void check_names(const StateValue& saved, const std::vector<std::string>& names,
                 const std::string& subject) {
  const auto& items = saved.to_list().items;
  check_arg(items.size() == names.size(), subject, "params: are ", items.size(),
            ", but ", names.size(), " in the optimizer");
  for (size_t i = 0; i < names.size(); ++i) {
    check_arg(items[i].to_string() == names[i], subject, "params.", i, ": is ",
              items[i].to_string(), ", but ", names[i], " in the optimizer");
  }
}

template <typename Options, typename State>
StateDict save_optimizer(const Optimizer& optimizer,
                         const std::vector<std::vector<std::string>>& names) {
  StateDict states;
  StateList groups;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto& group = optimizer.param_groups()[i];
    for (size_t j = 0; j < names[i].size(); ++j) {
      const at::Tensor& parameter = group.params()[j];
      const auto found =
          optimizer.state().find(parameter.unsafeGetTensorImpl());
      if (found != optimizer.state().end()) {
        states[names[i][j]] =
            state_of(static_cast<const State&>(*found->second), parameter);
      }
    }
    StateDict options;
    visit_fields(static_cast<const Options&>(group.options()),
                 [&](const char* name, const auto& field) {
                   options[name] = option_value(field);
                 });
    options["params"] = names_value(names[i]);
    groups.items.emplace_back(std::move(options));
  }
  StateDict result;
  result["state"] = std::move(states);
  result["param_groups"] = std::move(groups);
  return result;
}

template <typename Options, typename State>
void load_optimizer(Optimizer& optimizer,
                    const std::vector<std::vector<std::string>>& names,
                    const StateDict& saved) {
  const std::string subject = "load_state_dict: ";
  const auto& groups = saved.at("param_groups").to_list().items;
  const StateDict& states = saved.at("state").to_dict();
  check_arg(groups.size() == names.size(), subject, "param_groups: are ",
            groups.size(), ", but ", names.size(), " in the optimizer");

  // Everything is made before anything is changed.
  std::vector<std::unique_ptr<Options>> new_options;
  std::vector<std::pair<void*, std::unique_ptr<State>>> new_states;
  std::set<std::string> known;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto& group = optimizer.param_groups()[i];
    const std::string group_subject = concat(subject, "param_groups.", i, ".");
    const StateDict& saved_group = groups[i].to_dict();
    check_names(saved_group.at("params"), names[i], group_subject);
    new_options.push_back(std::make_unique<Options>(
        static_cast<const Options&>(group.options())));
    set_fields(*new_options.back(), saved_group, group_subject, {}, {"params"});
    for (size_t j = 0; j < names[i].size(); ++j) {
      const std::string& name = names[i][j];
      if (known.insert(name).second && states.contains(name)) {
        const at::Tensor& parameter = group.params()[j];
        new_states.emplace_back(parameter.unsafeGetTensorImpl(),
                                std::make_unique<State>());
        set_fields(*new_states.back().second, states.at(name).to_dict(),
                   subject + "state." + name + ".", parameter, {});
      }
    }
  }
  for (const auto& entry : states) {
    check_arg(known.contains(to_string(entry.first)), subject, "state.",
              to_string(entry.first), ": is no parameter of the optimizer");
  }

  for (size_t i = 0; i < names.size(); ++i) {
    optimizer.param_groups()[i].set_options(std::move(new_options[i]));
  }
  optimizer.state().clear();
  for (auto& [parameter, state] : new_states) {
    optimizer.state()[parameter] = std::move(state);
  }
}

}  // namespace

StateDict state_dict(const Optimizer& optimizer,
                     const torch::nn::Module& module) {
  const auto names = ParameterNames(module, "state_dict").of_groups(optimizer);
  return with_kind(optimizer, "state_dict", [&]<typename K>(K) {
    return save_optimizer<typename K::Options, typename K::State>(optimizer,
                                                                  names);
  });
}

void load_state_dict(Optimizer& optimizer, const torch::nn::Module& module,
                     const StateValue& state) {
  const auto names =
      ParameterNames(module, "load_state_dict").of_groups(optimizer);
  with_kind(optimizer, "load_state_dict", [&]<typename K>(K) {
    load_optimizer<typename K::Options, typename K::State>(optimizer, names,
                                                           state.to_dict());
  });
}

}  // namespace colonnade
