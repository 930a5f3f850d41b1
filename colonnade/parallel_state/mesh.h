// colonnade/parallel_state/mesh.h
#pragma once

#include "colonnade/core/api.h"

#include <cstdint>
#include <vector>

namespace colonnade {

/// The world ranks of every group of one kind.
using RankLists = std::vector<std::vector<int64_t>>;

/// How a world's ranks divide into tensor-parallel and data-parallel groups:
/// arithmetic on integers only.
///
/// Ranks of a tensor-parallel group are neighbours; a data-parallel group takes
/// the rank at one place of each tensor-parallel group. With world size 4 and
/// tensor-parallel size 2: {0, 1} {2, 3} and {0, 2} {1, 3}.
class COLONNADE_API Mesh {
 public:
  /// InvalidArgument where a size is below 1 or `tensor_model_parallel_size`
  /// does not divide `world_size`: with both, and how to start ranks.
  Mesh(int64_t world_size, int64_t tensor_model_parallel_size);

  int64_t world_size() const { return world_size_; }
  int64_t tensor_model_parallel_size() const { return tp_; }
  int64_t data_parallel_size() const { return world_size_ / tp_; }

  int64_t tensor_model_parallel_rank(int64_t rank) const { return rank % tp_; }
  int64_t data_parallel_rank(int64_t rank) const { return rank / tp_; }

  /// All groups of a kind; every rank is in exactly one.
  RankLists tensor_model_parallel_groups() const;
  RankLists data_parallel_groups() const;

 private:
  int64_t world_size_;
  int64_t tp_;
};

}  // namespace colonnade
