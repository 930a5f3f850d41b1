// colonnade/parallel_layers/cross_entropy.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade::parallel_layers {

/// The cross entropy of each token, from logits whose vocabulary is split over
/// the P ranks of a group as ParallelEmbedding and ColumnParallelLinear split
/// it. Equals torch's cross_entropy with reduction "none" on whole logits.
///
/// logits           [..., vocabulary of this rank], any floating dtype; sums
///                  are taken in fp32 (fp64 for doubles)
/// target           [...], whole vocabulary indices, equal on every rank
/// label_smoothing  in [0, 1], over the whole vocabulary
/// ignore_index     targets with this value give 0 and no gradient
/// vocab_size       whole, where the last ranks hold padding, which never
///                  counts; -1: P times the last size of logits
/// Output           [...], fp32 (fp64 for doubles), equal bits on every rank;
///                  differentiable any number of times
/// Cost             a pass over the logits forward and one backward; keeps the
///                  logits for backward, and no other tensor of their size
/// Wire             an all-gather of three numbers a token (four with label
///                  smoothing) forward, nothing backward; the vocabulary is
///                  never gathered
/// Errors           InvalidArgument with the target and the limit where one is
///                  outside the vocabulary and not ignore_index
/// Source           Shoeybi et al. 2019 (arXiv 1909.08053), section 3
COLONNADE_API at::Tensor parallel_cross_entropy(
    const at::Tensor& logits, const at::Tensor& target,
    double label_smoothing = 0.0, int64_t ignore_index = -100,
    int64_t vocab_size = -1, const GroupPtr& group = nullptr);

}  // namespace colonnade::parallel_layers
