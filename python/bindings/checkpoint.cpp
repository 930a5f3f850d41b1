// python/bindings/checkpoint.cpp
#include "bindings.h"
#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/comm/call_site.h"
#include "colonnade/parallel_layers/save_load.h"
#include "module_mirror.h"
#include "state_values.h"

#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <string>

namespace colonnade::python {
namespace {

namespace py = pybind11;
namespace pl = parallel_layers;
using Path = std::filesystem::path;

void save(const py::dict& state_dict, const Path& save_dir) {
  const StateDict state = state_from(state_dict, "save");
  const py::gil_scoped_release release;
  pl::save(state, save_dir);
}

py::dict load(const Path& load_dir) {
  StateDict state;
  {
    const py::gil_scoped_release release;
    state = pl::load(load_dir);
  }
  return dict_from(state);
}

py::dict load_into(const Path& load_dir, const py::object& model,
                   const std::string& model_key, bool sharded) {
  const ModuleMirror mirror = mirror_of(model);
  StateDict state;
  {
    const py::gil_scoped_release release;
    state = pl::load(load_dir, *mirror, model_key, sharded);
  }
  return dict_from(state);
}

void load_model(const Path& load_dir, const py::object& model,
                const std::string& model_key) {
  const ModuleMirror mirror = mirror_of(model);
  const py::gil_scoped_release release;
  pl::load_model(load_dir, *mirror, model_key);
}

/// Runs a step of Python, which does not communicate, on every rank; if it
/// raises on one, this raises on all.
void load_together(const py::function& step) {
  const py::gil_scoped_release release;
  const CallSiteScope site(CallSite("load"));
  const auto ranks = detail::CheckpointRanks::current("load");
  detail::together(ranks.world, [&] {
    const py::gil_scoped_acquire gil;
    try {
      step();
    } catch (const py::error_already_set& error) {
      throw_own(error);
    }
  });
}

void save_unsharded(const py::object& model, const Path& save_dir) {
  const ModuleMirror mirror = mirror_of(model);
  const py::gil_scoped_release release;
  pl::save_unsharded(*mirror, save_dir);
}

}  // namespace

void bind_checkpoint(py::module_& m) {
  m.def("save", &save);
  m.def("load", &load);
  m.def("load_into", &load_into);
  m.def("load_together", &load_together);
  m.def("load_model", &load_model);
  m.def("load_values", [](const Path& load_dir) {
    return dict_from(pl::load_values(load_dir));
  });
  m.def("save_unsharded", &save_unsharded);
}

}  // namespace colonnade::python
