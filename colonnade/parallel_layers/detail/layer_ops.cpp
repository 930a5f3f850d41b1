// colonnade/parallel_layers/detail/layer_ops.cpp
#include "colonnade/parallel_layers/detail/layer_ops.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/parallel_layers/detail/recording.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace colonnade::parallel_layers::detail {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

const GroupPtr& group_named(std::string_view name) {
  return RankContext::current()->group(name);
}

OptionalTensor optional(const Tensor& x) {
  return x.defined() ? OptionalTensor(x) : std::nullopt;
}

/// The op of a kernel below, by its name.
template <typename Kernel>
auto find_op(const char* name, Kernel*) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow(name, "")
      .typed<Kernel>();
}

Tensor column_kernel(const Tensor& x, const Tensor& weight,
                     const OptionalTensor& bias, bool gather_output,
                     bool sequence_parallel_enabled, int64_t sequence_dimension,
                     int64_t output_size, at::IntArrayRef segments,
                     std::optional<at::ScalarType> reduce_dtype,
                     std::string_view group) {
  const NotRecordedScope inside;
  return functional::column_parallel_linear(
      x, weight, bias.value_or(Tensor()),
      {.gather_output = gather_output,
       .sequence_parallel_enabled = sequence_parallel_enabled,
       .sequence_dimension = sequence_dimension,
       .output_size = output_size,
       .segments = segments,
       .reduce_dtype = reduce_dtype},
      group_named(group));
}

Tensor row_kernel(const Tensor& x, const Tensor& weight,
                  const OptionalTensor& bias, bool input_is_parallel,
                  bool sequence_parallel_enabled, int64_t sequence_dimension,
                  bool reduce_output,
                  std::optional<at::ScalarType> reduce_dtype,
                  int64_t input_size, at::IntArrayRef segments,
                  std::string_view group) {
  const NotRecordedScope inside;
  return functional::row_parallel_linear(
      x, weight, bias.value_or(Tensor()),
      {.input_is_parallel = input_is_parallel,
       .sequence_parallel_enabled = sequence_parallel_enabled,
       .sequence_dimension = sequence_dimension,
       .reduce_output = reduce_output,
       .reduce_dtype = reduce_dtype,
       .input_size = input_size,
       .segments = segments},
      group_named(group));
}

Tensor embedding_kernel(const Tensor& ids, const Tensor& weight,
                        int64_t num_embeddings,
                        std::optional<int64_t> padding_idx,
                        bool sequence_parallel_enabled,
                        int64_t sequence_dimension, bool shard_across_embedding,
                        int64_t embedding_dim,
                        std::optional<at::ScalarType> reduce_dtype,
                        std::string_view group) {
  const NotRecordedScope inside;
  return functional::parallel_embedding(
      ids, weight,
      {.num_embeddings = num_embeddings,
       .padding_idx = padding_idx,
       .sequence_parallel_enabled = sequence_parallel_enabled,
       .sequence_dimension = sequence_dimension,
       .shard_across_embedding = shard_across_embedding,
       .embedding_dim = embedding_dim,
       .reduce_dtype = reduce_dtype},
      group_named(group));
}

TORCH_LIBRARY_FRAGMENT(colonnade, m) {
  m.def(
      "column_parallel_linear(Tensor x, Tensor weight, Tensor? bias,"
      " bool gather_output, bool sequence_parallel_enabled,"
      " int sequence_dimension, int output_size, int[] segments,"
      " ScalarType? reduce_dtype, str group) -> Tensor");
  m.def(
      "row_parallel_linear(Tensor x, Tensor weight, Tensor? bias,"
      " bool input_is_parallel, bool sequence_parallel_enabled,"
      " int sequence_dimension, bool reduce_output, ScalarType? reduce_dtype,"
      " int input_size, int[] segments, str group) -> Tensor");
  m.def(
      "parallel_embedding(Tensor ids, Tensor weight, int num_embeddings,"
      " int? padding_idx, bool sequence_parallel_enabled,"
      " int sequence_dimension, bool shard_across_embedding,"
      " int embedding_dim, ScalarType? reduce_dtype, str group) -> Tensor");
}

// Autograd and autocast are those of the ops inside.
TORCH_LIBRARY_IMPL(colonnade, CompositeImplicitAutograd, m) {
  m.impl("column_parallel_linear", &column_kernel);
  m.impl("row_parallel_linear", &row_kernel);
  m.impl("parallel_embedding", &embedding_kernel);
}

}  // namespace

Tensor column_parallel_linear_op(
    const Tensor& x, const Tensor& weight, const Tensor& bias,
    const functional::ColumnParallelOptions& options, const GroupPtr& group) {
  static const auto op =
      find_op("colonnade::column_parallel_linear", &column_kernel);
  return op.call(x, weight, optional(bias), options.gather_output,
                 options.sequence_parallel_enabled, options.sequence_dimension,
                 options.output_size, options.segments, options.reduce_dtype,
                 group->name());
}

Tensor row_parallel_linear_op(const Tensor& x, const Tensor& weight,
                              const Tensor& bias,
                              const functional::RowParallelOptions& options,
                              const GroupPtr& group) {
  static const auto op = find_op("colonnade::row_parallel_linear", &row_kernel);
  return op.call(x, weight, optional(bias), options.input_is_parallel,
                 options.sequence_parallel_enabled, options.sequence_dimension,
                 options.reduce_output, options.reduce_dtype,
                 options.input_size, options.segments, group->name());
}

Tensor parallel_embedding_op(
    const Tensor& ids, const Tensor& weight,
    const functional::ParallelEmbeddingOptions& options,
    const GroupPtr& group) {
  static const auto op =
      find_op("colonnade::parallel_embedding", &embedding_kernel);
  return op.call(ids, weight, options.num_embeddings, options.padding_idx,
                 options.sequence_parallel_enabled, options.sequence_dimension,
                 options.shard_across_embedding, options.embedding_dim,
                 options.reduce_dtype, group->name());
}

}  // namespace colonnade::parallel_layers::detail
