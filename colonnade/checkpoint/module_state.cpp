// colonnade/checkpoint/module_state.cpp
#include "colonnade/checkpoint/detail/model_tensors.h"
#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/error.h"

#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <set>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using detail::ModelTensor;

bool fits(const ModelTensor& tensor, const StateTensor& value) {
  return value.tensor.defined() &&
         detail::can_fill(tensor.tensor.scalar_type(),
                          value.tensor.scalar_type()) &&
         tensor.tensor.sizes() == value.tensor.sizes() &&
         (!value.attributes.has_value() || !tensor.attributes.has_value() ||
          value.attributes->spec == tensor.attributes->spec);
}

std::string show(const at::Tensor& tensor,
                 const std::optional<TensorParallelAttributes>& attributes) {
  std::string text = detail::show_tensor(tensor.scalar_type(), tensor.sizes());
  if (attributes.has_value()) {
    text += concat(" (", to_string(attributes->spec), ")");
  }
  return text;
}

std::string show(const ModelTensor& tensor) {
  return show(tensor.tensor, tensor.attributes);
}

std::string show(const StateValue& value) {
  if (!value.is<StateTensor>() || !value.to_tensor().defined()) {
    return "no tensor";
  }
  return show(value.to_tensor(), value.to_state_tensor().attributes);
}

}  // namespace

StateDict state_dict(const torch::nn::Module& module) {
  StateDict result;
  for (ModelTensor& item : detail::model_tensors(module)) {
    result[item.name] =
        StateTensor{item.tensor.detach(), std::move(item.attributes)};
  }
  return result;
}

void load_state_dict(torch::nn::Module& module, const StateDict& state) {
  detail::KeyReport report;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  std::set<std::string> known;
  for (const ModelTensor& item : detail::model_tensors(module)) {
    known.insert(item.name);
    if (!state.contains(item.name)) {
      report.missing(item.name, show(item));
      continue;
    }
    const StateValue& value = state.at(item.name);
    if (!value.is<StateTensor>() || !fits(item, value.to_state_tensor())) {
      report.mismatched(item.name, show(item), show(value));
      continue;
    }
    copies.emplace_back(item.tensor, value.to_tensor());
  }
  for (const auto& [key, value] : state) {
    if (!known.contains(to_string(key))) {
      report.unexpected(to_string(key), show(value));
    }
  }
  report.throw_if_any("load_state_dict: the state dict");
  const at::NoGradGuard no_grad;
  for (auto& [to, from] : copies) {
    to.copy_(from);
  }
}

}  // namespace colonnade
