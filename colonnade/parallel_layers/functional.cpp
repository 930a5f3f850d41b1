// colonnade/parallel_layers/functional.cpp
#include "colonnade/parallel_layers/functional.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/layer_ops.h"
#include "colonnade/parallel_layers/detail/recording.h"
#include "colonnade/parallel_layers/detail/reduce_in_place.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/detail/shard_ops.h"
#include "colonnade/parallel_layers/mappings.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <c10/util/SmallVector.h>

#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers::functional {
namespace {

using at::Tensor;

constexpr std::string_view kColumn = "ColumnParallelLinear";
constexpr std::string_view kRow = "RowParallelLinear";
constexpr std::string_view kEmbedding = "ParallelEmbedding";

void check_defined(const Tensor& x, const char* what,
                   std::string_view subject) {
  check_arg(x.defined(), subject, ": the ", what,
            " is undefined; give a tensor");
}

void check_weight(const Tensor& weight, std::string_view subject) {
  check_defined(weight, "weight", subject);
  check_arg(weight.dim() == 2, subject, ": the weight has shape ",
            weight.sizes(), "; expected two dims");
}

/// bias  may be undefined
void check_bias(const Tensor& bias, const Tensor& weight,
                std::string_view subject) {
  if (!bias.defined()) {
    return;
  }
  check_arg(bias.dim() == 1 && bias.size(0) == weight.size(0), subject,
            ": the bias has shape ", bias.sizes(), "; expected [",
            weight.size(0), "], the rows of the weight");
  check_arg(bias.scalar_type() == weight.scalar_type(), subject,
            ": the bias is ", bias.scalar_type(), ", the weight ",
            weight.scalar_type(), "; convert one with to()");
}

void check_input(const Tensor& x, const Tensor& weight, int64_t input_size,
                 std::string_view subject) {
  check_defined(x, "input", subject);
  check_arg(x.dim() >= 1 && x.size(-1) == input_size, subject,
            ": the input has shape ", x.sizes(), "; expected [..., ",
            input_size, "]");
  check_arg(x.scalar_type() == weight.scalar_type() ||
                at::autocast::is_autocast_enabled(x.device().type()),
            subject, ": the input is ", x.scalar_type(), ", the weight ",
            weight.scalar_type(), "; convert one with to()");
  check_arg(x.device() == weight.device(), subject, ": the input is on ",
            x.device(), ", the weight on ", weight.device(),
            "; move one with to()");
}

/// The sequence dim of a tensor of `shape` ending in features, checked to
/// divide into `parts`.
int64_t sequence_dim(at::IntArrayRef shape, int64_t dim, int64_t parts,
                     std::string_view subject) {
  const auto dims = static_cast<int64_t>(shape.size());
  const int64_t wrapped = dim < 0 ? dim + dims : dim;
  check_arg(0 <= wrapped && wrapped < dims - 1, subject,
            ": sequence_dimension ", dim, " of a tensor of shape ", shape,
            " is not one of the dims in front of the last");
  check_arg(shape[wrapped] % parts == 0, subject, ": a sequence of ",
            shape[wrapped], " (dim ", dim, " of shape ", shape,
            ") does not divide over ", parts, " ranks; pad it to ",
            detail::round_up(shape[wrapped], parts));
  return wrapped;
}

void check_rows_of_parts(int64_t whole, int64_t part, int64_t parts,
                         std::string_view what, std::string_view subject) {
  check_arg(detail::round_up(whole, parts) == part * parts, subject, ": ", what,
            " ", whole, " over ", parts, " ranks does not give the ", part,
            " that the weight of this rank has");
}

/// Puts the parts of a fused output that was gathered rank by rank one after
/// the other.
///
/// y         [..., P * local], on each rank the parts of all segments
/// segments  whole sizes, sum P * local
Tensor join_segments(const Tensor& y, at::IntArrayRef segments, int64_t parts) {
  c10::SmallVector<int64_t, 4> local(segments.begin(), segments.end());
  for (int64_t& size : local) {
    size /= parts;
  }
  std::vector<Tensor> wholes =
      y.unflatten(-1, {parts, y.size(-1) / parts}).split_with_sizes(local, -1);
  for (Tensor& whole : wholes) {
    whole = whole.flatten(-2, -1);
  }
  return at::cat(wholes, -1);
}

/// This rank's even part of each segment of the last dim of `x`.
Tensor scatter_segments(const Tensor& x, at::IntArrayRef segments,
                        const GroupPtr& group) {
  if (segments.size() < 2) {
    return scatter_to_tensor_model_parallel_region(x, -1, group);
  }
  std::vector<Tensor> parts = x.split_with_sizes(segments, -1);
  for (Tensor& part : parts) {
    part = scatter_to_tensor_model_parallel_region(part, -1, group);
  }
  return at::cat(parts, -1);
}

/// The sum of `y`, which nobody else holds, over the group: whole, or this
/// rank's part of dim `sequence`.
Tensor reduce(Tensor y, std::optional<int64_t> sequence,
              std::optional<at::ScalarType> reduce_dtype,
              const GroupPtr& group) {
  const at::ScalarType dtype = y.scalar_type();
  y = y.to(reduce_dtype.value_or(dtype));
  y = sequence.has_value()
          ? reduce_scatter_to_sequence_parallel_region(y, *sequence, group)
          : detail::reduce_in_place(std::move(y), group);
  return y.to(dtype);
}

}  // namespace

Tensor column_parallel_linear(const Tensor& x, const Tensor& weight,
                              const Tensor& bias,
                              const ColumnParallelOptions& options,
                              const GroupPtr& group) {
  const GroupPtr over = detail::resolve_group(group, kColumn);
  check_weight(weight, kColumn);
  check_bias(bias, weight, kColumn);
  const int64_t parts = over->size();
  const int64_t padded_size = parts * weight.size(0);
  const int64_t output_size =
      options.output_size < 0 ? padded_size : options.output_size;
  check_input(x, weight, weight.size(1), kColumn);
  check_rows_of_parts(output_size, weight.size(0), parts, "output_size",
                      kColumn);
  if (detail::is_recording()) {
    return detail::column_parallel_linear_op(x, weight, bias, options, over);
  }

  Tensor whole_x;
  if (options.sequence_parallel_enabled) {
    const int64_t dim = sequence_dim(x.sizes(), options.sequence_dimension,
                                     /*parts=*/1, kColumn);
    whole_x = gather_from_sequence_parallel_region(
        x, dim, /*to_model_parallel=*/true, over, options.reduce_dtype);
  } else {
    whole_x =
        copy_to_tensor_model_parallel_region(x, over, options.reduce_dtype);
  }
  Tensor y = functional::linear(whole_x, weight, bias);
  const bool padded = output_size != padded_size;
  if (!options.gather_output) {
    return padded ? detail::zero_padding(y, -1, output_size, over) : y;
  }
  y = gather_from_tensor_model_parallel_region(y, -1, over);
  if (parts > 1 && options.segments.size() > 1) {
    y = join_segments(y, options.segments, parts);
  }
  return padded ? y.narrow(-1, 0, output_size) : y;
}

Tensor row_parallel_linear(const Tensor& x, const Tensor& weight,
                           const Tensor& bias,
                           const RowParallelOptions& options,
                           const GroupPtr& group) {
  const GroupPtr over = detail::resolve_group(group, kRow);
  check_weight(weight, kRow);
  check_bias(bias, weight, kRow);
  const int64_t parts = over->size();
  const int64_t padded_size = parts * weight.size(1);
  const int64_t input_size =
      options.input_size < 0 ? padded_size : options.input_size;
  check_input(x, weight,
              options.input_is_parallel ? weight.size(1) : input_size, kRow);
  check_rows_of_parts(input_size, weight.size(1), parts, "input_size", kRow);
  check_arg(options.reduce_output || !bias.defined(), kRow,
            ": a bias cannot be added to an output that is not reduced; set "
            "bias to false or skip_bias_add to true");
  std::optional<int64_t> sequence;
  if (options.sequence_parallel_enabled) {
    check_arg(options.input_is_parallel, kRow,
              ": sequence parallelism needs input_is_parallel");
    sequence = sequence_dim(x.sizes(), options.sequence_dimension, parts, kRow);
  }
  if (detail::is_recording()) {
    return detail::row_parallel_linear_op(x, weight, bias, options, over);
  }

  Tensor own_x = x;
  const int64_t padding = padded_size - input_size;
  if (options.input_is_parallel) {
    if (padding > 0) {
      own_x = detail::zero_padding(x, -1, input_size, over);
    }
  } else {
    if (padding > 0) {
      own_x = at::constant_pad_nd(x, {0, padding});
    }
    own_x = scatter_segments(own_x, options.segments, over);
  }
  if (parts == 1) {
    return functional::linear(own_x, weight, bias);
  }
  Tensor y = functional::linear(own_x, weight);
  if (!options.reduce_output) {
    return y;
  }
  y = reduce(std::move(y), sequence, options.reduce_dtype, over);
  if (!bias.defined()) {
    return y;
  }
  // Each rank adds the bias to its part of the sequence only, so the bias's
  // gradient is the sum over the ranks.
  return y.add_(options.sequence_parallel_enabled
                    ? copy_to_tensor_model_parallel_region(bias, over)
                    : bias);
}

Tensor parallel_embedding(const Tensor& ids, const Tensor& weight,
                          const ParallelEmbeddingOptions& options,
                          const GroupPtr& group) {
  const GroupPtr over = detail::resolve_group(group, kEmbedding);
  check_defined(ids, "input", kEmbedding);
  check_weight(weight, kEmbedding);
  const int64_t parts = over->size();
  const bool by_columns = options.shard_across_embedding;
  const int64_t padded_dim =
      by_columns ? parts * weight.size(1) : weight.size(1);
  const int64_t embedding_dim = by_columns && options.embedding_dim >= 0
                                    ? options.embedding_dim
                                    : padded_dim;
  if (by_columns) {
    check_arg(weight.size(0) == options.num_embeddings, kEmbedding,
              ": the weight has ", weight.size(0),
              " rows; expected num_embeddings ", options.num_embeddings,
              " where columns are split");
    check_rows_of_parts(embedding_dim, weight.size(1), parts, "embedding_dim",
                        kEmbedding);
  } else {
    check_rows_of_parts(options.num_embeddings, weight.size(0), parts,
                        "num_embeddings", kEmbedding);
  }
  std::optional<int64_t> sequence;
  if (options.sequence_parallel_enabled) {
    c10::SmallVector<int64_t, 6> shape(ids.sizes().begin(), ids.sizes().end());
    shape.push_back(embedding_dim);
    sequence =
        sequence_dim(shape, options.sequence_dimension, parts, kEmbedding);
  }
  if (detail::is_recording()) {
    return detail::parallel_embedding_op(ids, weight, options, over);
  }
  Tensor y = detail::vocab_embedding(weight, ids, options.num_embeddings,
                                     options.padding_idx,
                                     /*rows_are_split=*/!by_columns, over);
  if (!by_columns) {
    return reduce(std::move(y), sequence, options.reduce_dtype, over);
  }
  y = gather_from_tensor_model_parallel_region(y, -1, over);
  if (embedding_dim != padded_dim) {
    y = y.narrow(-1, 0, embedding_dim);
  }
  return sequence.has_value()
             ? scatter_to_sequence_parallel_region(y, *sequence, over)
             : y;
}

}  // namespace colonnade::parallel_layers::functional
