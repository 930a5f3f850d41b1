// colonnade/trace/traceable.cpp
#include "colonnade/trace/traceable.h"

#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>

namespace colonnade::trace {
namespace {

using c10::IValue;

at::Tensor call_any(torch::nn::AnyModule& module,
                    const std::vector<IValue>& inputs) {
  const auto x = [&](size_t i) { return inputs[i].toTensor(); };
  switch (inputs.size()) {
    case 1:
      return module.forward(x(0));
    case 2:
      return module.forward(x(0), x(1));
    case 3:
      return module.forward(x(0), x(1), x(2));
    case 4:
      return module.forward(x(0), x(1), x(2), x(3));
    default:
      throw InvalidArgument(concat(
          "trace: an AnyModule is traced with one to four tensors, not ",
          inputs.size(), "; give a Traceable, which says how to call it"));
  }
}

}  // namespace

Traceable make_traceable(const torch::nn::AnyModule& module) {
  auto copy = std::make_shared<torch::nn::AnyModule>(module);
  return {copy->ptr(), [copy](const std::vector<IValue>& inputs) -> IValue {
            return call_any(*copy, inputs);
          }};
}

Traceable make_traceable(std::shared_ptr<torch::nn::SequentialImpl> module) {
  return {module, [module](const std::vector<IValue>& inputs) -> IValue {
            check_arg(inputs.size() == 1,
                      "trace: a Sequential is traced with one tensor, not ",
                      inputs.size());
            return module->forward(inputs[0].toTensor());
          }};
}

}  // namespace colonnade::trace
