// colonnade/checkpoint/detail/model_tensors.cpp
#include "colonnade/checkpoint/detail/model_tensors.h"

#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/core/error.h"

#include <torch/nn/module.h>

namespace colonnade::detail {

std::vector<int64_t> ModelTensor::whole_shape() const {
  return attributes.has_value() ? attributes->spec.whole_shape(tensor.sizes())
                                : tensor.sizes().vec();
}

std::vector<ModelTensor> model_tensors(const torch::nn::Module& module) {
  std::vector<ModelTensor> tensors;
  const auto add = [&](const auto& named) {
    for (const auto& item : named) {
      if (item.value().defined()) {
        tensors.push_back({item.key(), item.value(),
                           get_tensor_parallel_attributes(item.value())});
      }
    }
  };
  add(module.named_parameters());
  add(module.named_buffers());
  return tensors;
}

bool can_fill(at::ScalarType to, at::ScalarType from) {
  return to == from || (at::isFloatingType(to) && at::isFloatingType(from));
}

std::string show_tensor(at::ScalarType dtype, at::IntArrayRef shape) {
  const std::string name = dtype_name(dtype);
  return concat(name.empty() ? c10::toString(dtype) : name.c_str(), " ", shape);
}

void KeyReport::missing(std::string_view name, std::string_view wanted) {
  missing_ += concat("\n  missing: ", name, ", ", wanted, " in the model");
}

void KeyReport::unexpected(std::string_view name, std::string_view found) {
  unexpected_ += concat("\n  unexpected: ", name, ", ", found, " to load");
}

void KeyReport::mismatched(std::string_view name, std::string_view wanted,
                           std::string_view found) {
  mismatched_ += concat("\n  mismatched: ", name, ", ", wanted,
                        " in the model, but ", found, " to load");
}

void KeyReport::throw_if_any(std::string_view subject) const {
  const std::string all = missing_ + unexpected_ + mismatched_;
  check_arg(all.empty(), subject, " does not fit the model:", all);
}

}  // namespace colonnade::detail
