// colonnade/sharding/move_model_to_device.cpp
#include "colonnade/sharding/move_model_to_device.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/TensorImpl.h>
#include <torch/nn/module.h>

namespace colonnade::parallel_state {
namespace {

bool is_on(const at::Tensor& tensor, c10::Device device) {
  return device.has_index() ? tensor.device() == device
                            : tensor.device().type() == device.type();
}

/// Moves a tensor to `device` without changing which tensor it is.
void move_tensor(const at::Tensor& tensor, c10::Device device) {
  if (is_on(tensor, device)) {
    return;
  }
  const at::Tensor moved = tensor.is_meta() ? at::empty_like(tensor, device)
                                            : tensor.detach().to(device);
  if (tensor.is_meta() || moved.is_meta()) {
    // set_data takes data of another device, but not to or from meta unless
    // the tensor says that it is of that backend already.
    tensor.unsafeGetTensorImpl()->_change_backend_component_keys(
        moved.device());
  }
  // Also drops a gradient accumulator that was made for the old device.
  tensor.set_data(moved);
}

void move_parameter(const at::Tensor& parameter, c10::Device device) {
  const at::Tensor gradient = parameter.grad();
  move_tensor(parameter, device);
  if (!gradient.defined()) {
    return;
  }
  if (gradient.is_meta() && !device.is_meta()) {
    parameter.mutable_grad().reset();  // there is nothing in it
  } else {
    move_tensor(gradient, device);
  }
}

}  // namespace

void move_model_to_device(torch::nn::Module& model, c10::Device device) {
  at::NoGradGuard no_grad;
  for (const at::Tensor& parameter : model.parameters()) {
    move_parameter(parameter, device);
  }
  for (const at::Tensor& buffer : model.buffers()) {
    move_tensor(buffer, device);
  }
  // Finds everything moved; modules that do more in their own `to` (torch's
  // RNNs pack their weights) get to do it.
  model.to(device);
}

}  // namespace colonnade::parallel_state
