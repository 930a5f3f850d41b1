// colonnade/parallel_layers/functional.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace colonnade::parallel_layers::functional {

// The layers' mathematics as functions of tensors and a group; the modules of
// C++ and of Python call these. `group` null is the current tensor-parallel
// group, P its size.

/// y = x A^T + b with the matrix-product engine chosen for this CPU
/// (COLONNADE_MATMUL=torch|onednn overrides), forward and backward. All matrix
/// products of the layers go through here.
///
/// x       [..., in]
/// weight  [out, in]
/// bias    [out], or undefined
/// Output  [..., out]
COLONNADE_API at::Tensor linear(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias = {});

struct ColumnParallelOptions {
  bool gather_output = true;
  bool sequence_parallel_enabled = false;
  int64_t sequence_dimension = 0;
  /// Whole, without padding; -1: P times the rows of the weight.
  int64_t output_size = -1;
  /// Whole sizes of the parts of a fused output, as the weight was split;
  /// empty: one part. Not owned.
  at::IntArrayRef segments = {};
  /// In which the gradient of a whole input is added up; empty: its own.
  std::optional<at::ScalarType> reduce_dtype = {};
};

/// Y = X A^T + b, the rows of A and b split over P ranks.
///
/// x       [..., in], equal on every rank; with sequence parallelism this
///         rank's part of the sequence
/// weight  [out / P, in]
/// bias    [out / P], or undefined
/// Output  [..., out], or [..., out / P] if not gathered; padding is zero, is
///         left out of what is gathered, and gives the weight no gradient
/// Errors  InvalidArgument where sizes or dtypes do not fit
COLONNADE_API at::Tensor column_parallel_linear(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const ColumnParallelOptions& options = {}, const GroupPtr& group = nullptr);

struct RowParallelOptions {
  bool input_is_parallel = false;
  bool sequence_parallel_enabled = false;
  int64_t sequence_dimension = 0;
  bool reduce_output = true;
  std::optional<at::ScalarType> reduce_dtype =
      {};  ///< Empty: that of the product.
  /// Whole, without padding; -1: P times the columns of the weight.
  int64_t input_size = -1;
  /// Whole sizes of the parts of a fused input, as the weight was split; empty:
  /// one part. Not owned.
  at::IntArrayRef segments = {};
};

/// Y = X A^T + b, the columns of A split over P ranks; b is whole and added
/// once, after the reduce.
///
/// x       [..., in / P] if parallel, else [..., in]
/// weight  [out, in / P]
/// bias    [out], or undefined
/// Output  [..., out]; with sequence parallelism this rank's part of the
///         sequence
/// Errors  InvalidArgument where sizes or dtypes do not fit, where sequence
///         parallelism gets a whole input, and where a bias meets an output
///         that is not reduced
COLONNADE_API at::Tensor row_parallel_linear(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
    const RowParallelOptions& options = {}, const GroupPtr& group = nullptr);

struct ParallelEmbeddingOptions {
  int64_t num_embeddings = 0;               ///< Whole, without padding.
  std::optional<int64_t> padding_idx = {};  ///< Gets no gradient.
  bool sequence_parallel_enabled = false;
  int64_t sequence_dimension = 0;
  /// The table is split along its columns, not its rows.
  bool shard_across_embedding = false;
  /// Whole, without padding, where columns are split; -1: P times those of the
  /// weight.
  int64_t embedding_dim = -1;
  /// In which rows, of which one rank has other than zeros, are added up;
  /// empty: the table's. Columns are not added up.
  std::optional<at::ScalarType> reduce_dtype = {};
};

/// Rows of a table that is split over P ranks.
///
/// ids     int32 or int64 of any shape, equal on every rank
/// weight  [ceil(num_embeddings / P), embedding_dim], or
///         [num_embeddings, embedding_dim / P]
/// Output  [ids..., embedding_dim]; with sequence parallelism this rank's part
///         of the sequence
/// Errors  InvalidArgument with the id and the limit where an id is outside
///         [0, num_embeddings); on CUDA, where looking would stop the host,
///         torch's asynchronous assertion
COLONNADE_API at::Tensor parallel_embedding(
    const at::Tensor& ids, const at::Tensor& weight,
    const ParallelEmbeddingOptions& options, const GroupPtr& group = nullptr);

}  // namespace colonnade::parallel_layers::functional
