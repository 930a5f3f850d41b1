// python/bindings/module_mirror.h
#pragma once

#include <torch/csrc/utils/pybind.h>
#include <torch/nn/module.h>

#include <memory>

namespace colonnade::python {

/// A C++ module of the submodules, parameters and buffers of a Python module,
/// under the same names: the tensors themselves, none of the code.
using ModuleMirror = std::shared_ptr<torch::nn::Module>;

/// Which buffers a mirror has.
enum class Buffers {
  kPersistent,  ///< Those of the state dict.
  kAll,
};

/// Called with the interpreter held. TypeError where `module` is not a
/// torch.nn.Module.
ModuleMirror mirror_of(const pybind11::object& module,
                       Buffers buffers = Buffers::kPersistent);

}  // namespace colonnade::python
