// colonnade/parallel_layers/parallel_embedding.h
#pragma once

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"
#include "colonnade/parallel_layers/init.h"

#include <torch/arg.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>

namespace colonnade::parallel_layers {

struct COLONNADE_API ParallelEmbeddingOptions {
  ParallelEmbeddingOptions(int64_t num_embeddings, int64_t embedding_dim)
      : num_embeddings_(num_embeddings), embedding_dim_(embedding_dim) {}
  TORCH_ARG(int64_t, num_embeddings);  ///< Whole; need not divide.
  TORCH_ARG(int64_t, embedding_dim);
  /// Fills the whole table; null: normal_, as torch::nn::Embedding.
  TORCH_ARG(InitMethod, init_method) = nullptr;
  TORCH_ARG(at::ScalarType, dtype) = at::kFloat;
  TORCH_ARG(at::Device, device) = at::kCPU;
  TORCH_ARG(GroupPtr, group) = nullptr;  ///< Null: the current TP group.
  /// This row starts as zeros and gets no gradient.
  TORCH_ARG(std::optional<int64_t>, padding_idx);
  /// The output is this rank's part of the sequence.
  TORCH_ARG(bool, sequence_parallel_enabled) = false;
  TORCH_ARG(int64_t, sequence_dimension) = 0;
  /// Splits the table's columns instead of its rows: embedding_dim must then
  /// divide, and the output is gathered.
  TORCH_ARG(bool, shard_across_embedding) = false;
  /// Pads an embedding_dim that does not divide, in memory only; rows always
  /// are.
  TORCH_ARG(bool, pad) = false;
  /// In which rows, of which one rank has other than zeros, are added up;
  /// empty: the table's dtype.
  TORCH_ARG(std::optional<at::ScalarType>, reduce_dtype);
};

/// A lookup table whose rows, or columns, are split over P ranks; the last
/// ranks hold fewer rows where num_embeddings does not divide.
///
/// Input   integers of any shape, equal on every rank
/// Output  [input..., embedding_dim]
/// Init    that of torch::nn::Embedding, bit for bit
/// Wire    an all-reduce of the output; of split columns an all-gather
/// Errors  InvalidArgument with the id and the limit where an id is outside
///         [0, num_embeddings); where embedding_dim is to be split and does not
///         divide
/// Source  Shoeybi et al. 2019 (arXiv 1909.08053), section 3
class COLONNADE_API ParallelEmbeddingImpl
    : public torch::nn::Cloneable<ParallelEmbeddingImpl> {
 public:
  ParallelEmbeddingImpl(int64_t num_embeddings, int64_t embedding_dim)
      : ParallelEmbeddingImpl(
            ParallelEmbeddingOptions(num_embeddings, embedding_dim)) {}
  explicit ParallelEmbeddingImpl(ParallelEmbeddingOptions options);

  void reset() override;
  void reset_parameters();
  at::Tensor forward(const at::Tensor& ids);
  /// A copy with the same attributes; draws nothing.
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<at::Device>& device = std::nullopt) const override;
  void pretty_print(std::ostream& stream) const override;

  ParallelEmbeddingOptions options;
  CallSite call_site{"ParallelEmbedding"};  ///< For errors; see name_layers.
  /// [ceil(num_embeddings / P), embedding_dim], or
  /// [num_embeddings, embedding_dim / P]
  at::Tensor weight;
};
TORCH_MODULE(ParallelEmbedding);

}  // namespace colonnade::parallel_layers
