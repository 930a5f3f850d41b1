// python/bindings/layers.cpp
#include "bindings.h"
#include "colonnade/comm/call_site.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/parallel_layers/average_gradients.h"
#include "colonnade/parallel_layers/clip_grad_norm.h"
#include "colonnade/parallel_layers/cross_entropy.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/parallel_layers/init.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/sharding/move_model_to_device.h"
#include "module_mirror.h"

#include <pybind11/functional.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::python {
namespace {

namespace py = pybind11;
namespace pl = parallel_layers;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using OptionalName = std::optional<std::string>;
using OptionalType = std::optional<at::ScalarType>;

/// The group of that name; none: null, for the current tensor-parallel group.
GroupPtr group_called(const OptionalName& name) {
  return name.has_value() ? RankContext::current()->group(*name) : nullptr;
}

Tensor column_parallel_linear(const Tensor& x, const Tensor& weight,
                              const OptionalTensor& bias, bool gather_output,
                              bool sequence_parallel_enabled,
                              int64_t sequence_dimension, int64_t output_size,
                              const std::vector<int64_t>& segments,
                              OptionalType reduce_dtype,
                              const OptionalName& group,
                              std::string_view site) {
  const CallSiteScope scope{CallSite(site)};
  return pl::functional::column_parallel_linear(
      x, weight, bias.value_or(Tensor()),
      {.gather_output = gather_output,
       .sequence_parallel_enabled = sequence_parallel_enabled,
       .sequence_dimension = sequence_dimension,
       .output_size = output_size,
       .segments = segments,
       .reduce_dtype = reduce_dtype},
      group_called(group));
}

Tensor row_parallel_linear(const Tensor& x, const Tensor& weight,
                           const OptionalTensor& bias, bool input_is_parallel,
                           bool sequence_parallel_enabled,
                           int64_t sequence_dimension, bool reduce_output,
                           OptionalType reduce_dtype, int64_t input_size,
                           const std::vector<int64_t>& segments,
                           const OptionalName& group, std::string_view site) {
  const CallSiteScope scope{CallSite(site)};
  return pl::functional::row_parallel_linear(
      x, weight, bias.value_or(Tensor()),
      {.input_is_parallel = input_is_parallel,
       .sequence_parallel_enabled = sequence_parallel_enabled,
       .sequence_dimension = sequence_dimension,
       .reduce_output = reduce_output,
       .reduce_dtype = reduce_dtype,
       .input_size = input_size,
       .segments = segments},
      group_called(group));
}

Tensor parallel_embedding(const Tensor& ids, const Tensor& weight,
                          int64_t num_embeddings,
                          std::optional<int64_t> padding_idx,
                          bool sequence_parallel_enabled,
                          int64_t sequence_dimension,
                          bool shard_across_embedding, int64_t embedding_dim,
                          OptionalType reduce_dtype, const OptionalName& group,
                          std::string_view site) {
  const CallSiteScope scope{CallSite(site)};
  return pl::functional::parallel_embedding(
      ids, weight,
      {.num_embeddings = num_embeddings,
       .padding_idx = padding_idx,
       .sequence_parallel_enabled = sequence_parallel_enabled,
       .sequence_dimension = sequence_dimension,
       .shard_across_embedding = shard_across_embedding,
       .embedding_dim = embedding_dim,
       .reduce_dtype = reduce_dtype},
      group_called(group));
}

void bind_functional(py::module_& m) {
  m.def(
      "linear",
      [](const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
        return pl::functional::linear(x, weight, bias.value_or(Tensor()));
      },
      ReleaseGil());
  m.def("column_parallel_linear", &column_parallel_linear, ReleaseGil());
  m.def("row_parallel_linear", &row_parallel_linear, ReleaseGil());
  m.def("parallel_embedding", &parallel_embedding, ReleaseGil());
  m.def(
      "parallel_cross_entropy",
      [](const Tensor& logits, const Tensor& target, double label_smoothing,
         int64_t ignore_index, int64_t vocab_size, const OptionalName& group) {
        return pl::parallel_cross_entropy(logits, target, label_smoothing,
                                          ignore_index, vocab_size,
                                          group_called(group));
      },
      ReleaseGil());
}

/// Binds a mapping of a tensor and a group, as a function of its name.
template <Tensor (*mapping)(const Tensor&, const GroupPtr&)>
void bind_mapping(py::module_& m, const char* name) {
  m.def(
      name,
      [](const Tensor& x, const OptionalName& group) {
        return mapping(x, group_called(group));
      },
      ReleaseGil());
}

/// The same of one along a dim.
template <Tensor (*mapping)(const Tensor&, int64_t, const GroupPtr&)>
void bind_mapping(py::module_& m, const char* name) {
  m.def(
      name,
      [](const Tensor& x, int64_t dim, const OptionalName& group) {
        return mapping(x, dim, group_called(group));
      },
      ReleaseGil());
}

void bind_mappings(py::module_& m) {
  m.def(
      "copy_to_tensor_model_parallel_region",
      [](const Tensor& x, const OptionalName& group, OptionalType dtype) {
        return pl::copy_to_tensor_model_parallel_region(x, group_called(group),
                                                        dtype);
      },
      py::arg("x"), py::arg("group"), py::arg("reduce_dtype") = py::none(),
      ReleaseGil());
  bind_mapping<&pl::reduce_from_tensor_model_parallel_region>(
      m, "reduce_from_tensor_model_parallel_region");
  bind_mapping<&pl::scatter_to_tensor_model_parallel_region>(
      m, "scatter_to_tensor_model_parallel_region");
  bind_mapping<&pl::gather_from_tensor_model_parallel_region>(
      m, "gather_from_tensor_model_parallel_region");
  bind_mapping<&pl::scatter_to_sequence_parallel_region>(
      m, "scatter_to_sequence_parallel_region");
  bind_mapping<&pl::reduce_scatter_to_sequence_parallel_region>(
      m, "reduce_scatter_to_sequence_parallel_region");
  m.def(
      "gather_from_sequence_parallel_region",
      [](const Tensor& x, int64_t dim, bool to_model_parallel,
         const OptionalName& group, OptionalType dtype) {
        return pl::gather_from_sequence_parallel_region(
            x, dim, to_model_parallel, group_called(group), dtype);
      },
      py::arg("x"), py::arg("dim"), py::arg("to_model_parallel"),
      py::arg("group"), py::arg("reduce_dtype") = py::none(), ReleaseGil());
}

void bind_training(py::module_& m) {
  m.def(
      "clip_grad_norm",
      [](const std::vector<Tensor>& parameters, double max_norm,
         double norm_type, bool error_if_nonfinite) {
        return pl::clip_grad_norm(parameters, max_norm, norm_type,
                                  error_if_nonfinite);
      },
      ReleaseGil());
  m.def("average_gradients",
        [](const py::object& model, const OptionalName& group) {
          const ModuleMirror mirror = mirror_of(model);
          const py::gil_scoped_release release;
          pl::average_gradients(*mirror, group_called(group));
        });
  m.def("move_model_to_device", [](const py::object& model, at::Device device) {
    const ModuleMirror mirror = mirror_of(model, Buffers::kAll);
    const py::gil_scoped_release release;
    parallel_state::move_model_to_device(*mirror, device);
  });
  py::class_<pl::NoSyncScope>(m, "NoSyncScope").def(py::init<>());
}

}  // namespace

void bind_layers(py::module_& m) {
  bind_functional(m);
  bind_mappings(m);
  bind_training(m);
  m.def(
      "init_parameter",
      [](Tensor parameter, const pl::InitMethod& method) {
        pl::init_parameter(parameter, method);
      },
      ReleaseGil());
  m.def("group_name", [](const OptionalName& name, const std::string& subject) {
    return pl::detail::resolve_group(group_called(name), subject)->name();
  });
}

}  // namespace colonnade::python
