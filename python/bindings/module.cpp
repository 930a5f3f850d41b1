// python/bindings/module.cpp
#include "bindings.h"
#include "colonnade/core/version.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Colonnade's C++ library; use the modules beside it.";
  m.attr("__version__") = colonnade::version();
  colonnade::python::bind_errors(m);
  colonnade::python::bind_groups(m);
  colonnade::python::bind_ranks(m);
  colonnade::python::bind_parallel_state(m);
  colonnade::python::bind_sharding(m);
  colonnade::python::bind_layers(m);
  colonnade::python::bind_checkpoint(m);
  colonnade::python::bind_trace(m);
  colonnade::python::bind_torch_backend(m);
  colonnade::python::bind_torch_groups(m);
}
