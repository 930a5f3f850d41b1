// colonnade/parallel_layers/detail/layer_ops.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/parallel_layers/functional.h"

#include <ATen/core/Tensor.h>

namespace colonnade::parallel_layers::detail {

// The functional forms as one dispatcher op each, which a recording holds in
// place of the ops that they call: those depend on the degree (padding, a group
// of one), and are chosen anew inside the op when the graph runs. Eager code
// calls the functional forms themselves.

at::Tensor column_parallel_linear_op(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const functional::ColumnParallelOptions& options, const GroupPtr& group);

at::Tensor row_parallel_linear_op(const at::Tensor& x, const at::Tensor& weight,
                                  const at::Tensor& bias,
                                  const functional::RowParallelOptions& options,
                                  const GroupPtr& group);

at::Tensor parallel_embedding_op(
    const at::Tensor& ids, const at::Tensor& weight,
    const functional::ParallelEmbeddingOptions& options, const GroupPtr& group);

}  // namespace colonnade::parallel_layers::detail
