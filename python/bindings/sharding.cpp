// python/bindings/sharding.cpp
#include "bindings.h"
#include "colonnade/parallel_layers/detail/layer_parameters.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/shard_spec.h"
#include "colonnade/sharding/split_join.h"

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace colonnade::python {
namespace {

namespace py = pybind11;
using at::Tensor;
/// A ShardSpec as Python pickles it.
using SpecTuple = std::tuple<int64_t, int64_t,
                             std::vector<std::pair<int64_t, int64_t>>, int64_t>;

std::vector<std::pair<int64_t, int64_t>> ranges_of(const ShardSpec& spec) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const IndexRange& range : spec.ranges) {
    ranges.emplace_back(range.begin, range.end);
  }
  return ranges;
}

ShardSpec make_spec(int64_t dim, int64_t whole_size,
                    const std::vector<std::pair<int64_t, int64_t>>& ranges,
                    int64_t local_size) {
  ShardSpec spec{.dim = dim,
                 .whole_size = whole_size,
                 .ranges = {},
                 .local_size = local_size};
  for (const auto& [begin, end] : ranges) {
    spec.ranges.push_back({begin, end});
  }
  return spec;
}

void bind_spec(py::module_& m) {
  py::class_<ShardSpec>(
      m, "ShardSpec",
      "Which part of a whole tensor one rank holds: along `dim`, of size "
      "`whole_size` in\nthe whole, the index ranges `ranges` one after the "
      "other, then padding up to\n`local_size`.")
      .def(py::init(&make_spec), py::arg("dim"), py::arg("whole_size"),
           py::arg("ranges"), py::arg("local_size"))
      .def_readonly("dim", &ShardSpec::dim)
      .def_readonly("whole_size", &ShardSpec::whole_size)
      .def_property_readonly("ranges", &ranges_of)
      .def_readonly("local_size", &ShardSpec::local_size)
      .def("local_shape",
           [](const ShardSpec& spec, const std::vector<int64_t>& whole) {
             return spec.local_shape(whole);
           })
      .def("whole_shape",
           [](const ShardSpec& spec, const std::vector<int64_t>& local) {
             return spec.whole_shape(local);
           })
      .def("__eq__",
           [](const ShardSpec& a, const py::object& b) {
             return py::isinstance<ShardSpec>(b) && a == b.cast<ShardSpec>();
           })
      .def("__repr__",
           [](const ShardSpec& spec) {
             return "<ShardSpec: " + to_string(spec) + ">";
           })
      .def(py::pickle(
          [](const ShardSpec& spec) {
            return SpecTuple(spec.dim, spec.whole_size, ranges_of(spec),
                             spec.local_size);
          },
          [](const SpecTuple& state) { return std::apply(make_spec, state); }));
}

ShardSpec layer_spec(const std::string& layer, const std::string& name,
                     int64_t dim, int64_t size,
                     const std::vector<int64_t>& segments, bool pad,
                     const GroupPtr& group) {
  return parallel_layers::detail::layer_spec({.layer = layer,
                                              .name = name,
                                              .dim = dim,
                                              .size = size,
                                              .segments = segments,
                                              .pad = pad},
                                             *group);
}

}  // namespace

void bind_sharding(py::module_& m) {
  bind_spec(m);
  m.def("layer_spec", &layer_spec);
  m.def("padded_spec", [](int64_t dim, int64_t size, const GroupPtr& group) {
    return ShardSpec::padded(dim, size, group->rank(), group->size());
  });
  m.def("set_attributes", [](const Tensor& tensor, const ShardSpec& spec,
                             const std::string& group) {
    set_tensor_parallel_attributes(tensor, {spec, group});
  });
  m.def("get_attributes", [](const Tensor& tensor) -> py::object {
    const auto attributes = get_tensor_parallel_attributes(tensor);
    return attributes.has_value()
               ? py::make_tuple(attributes->spec, attributes->group)
               : py::object(py::none());
  });
  m.def("gather_parameter", &gather_parameter, ReleaseGil());
  m.def(
      "split_parameter",
      [](Tensor parameter, const Tensor& whole) {
        const at::NoGradGuard no_grad;
        split_parameter(parameter, whole);
      },
      ReleaseGil());
}

}  // namespace colonnade::python
