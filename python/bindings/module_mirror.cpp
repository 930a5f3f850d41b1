// python/bindings/module_mirror.cpp
#include "module_mirror.h"

#include <string>

namespace colonnade::python {
namespace {

namespace py = pybind11;

class Mirror final : public torch::nn::Module {
 public:
  Mirror(const py::object& module, Buffers buffers) {
    for (const auto& [name, tensor] : items(module, "_parameters")) {
      if (!tensor.is_none()) {
        // As it is: to register it would set requires_grad.
        parameters_.insert(name, tensor.cast<at::Tensor>());
      }
    }
    const py::set skipped =
        buffers == Buffers::kAll
            ? py::set()
            : py::set(module.attr("_non_persistent_buffers_set"));
    for (const auto& [name, tensor] : items(module, "_buffers")) {
      if (!tensor.is_none() && !skipped.contains(py::str(name))) {
        register_buffer(name, tensor.cast<at::Tensor>());
      }
    }
    for (const auto& [name, child] : items(module, "_modules")) {
      if (!child.is_none()) {
        register_module(name, mirror_of(child, buffers));
      }
    }
  }

 private:
  static std::vector<std::pair<std::string, py::object>> items(
      const py::object& module, const char* table) {
    std::vector<std::pair<std::string, py::object>> result;
    for (const auto& item : module.attr(table).cast<py::dict>()) {
      result.emplace_back(item.first.cast<std::string>(),
                          py::reinterpret_borrow<py::object>(item.second));
    }
    return result;
  }
};

}  // namespace

ModuleMirror mirror_of(const py::object& module, Buffers buffers) {
  static const py::handle module_class =
      py::object(py::module_::import("torch.nn").attr("Module")).release();
  if (!py::isinstance(module, module_class)) {
    throw py::type_error("expected a torch.nn.Module, not " +
                         std::string(py::str(py::type::of(module))));
  }
  return std::make_shared<Mirror>(module, buffers);
}

}  // namespace colonnade::python
