// colonnade/parallel_state/mesh.cpp
#include "colonnade/parallel_state/mesh.h"

#include "colonnade/core/error.h"

namespace colonnade {

Mesh::Mesh(int64_t world_size, int64_t tensor_model_parallel_size)
    : world_size_(world_size), tp_(tensor_model_parallel_size) {
  check_arg(world_size >= 1, "Model parallel: world_size is ", world_size,
            "; it is at least 1");
  check_arg(tp_ >= 1, "Model parallel: tensor_model_parallel_size is ", tp_,
            " in a world of size ", world_size,
            "; it is at least 1, and above 1 it needs as many ranks: "
            "colonnade::run_ranks(n, …)");
  check_arg(world_size % tp_ == 0,
            "Model parallel: tensor_model_parallel_size ", tp_,
            " does not divide the world size ", world_size,
            "; start a multiple of ", tp_, " ranks: colonnade::run_ranks(",
            tp_ * (world_size / tp_ + 1), ", …)");
}

RankLists Mesh::tensor_model_parallel_groups() const {
  RankLists groups(data_parallel_size());
  for (int64_t rank = 0; rank < world_size_; ++rank) {
    groups[data_parallel_rank(rank)].push_back(rank);
  }
  return groups;
}

RankLists Mesh::data_parallel_groups() const {
  RankLists groups(tp_);
  for (int64_t rank = 0; rank < world_size_; ++rank) {
    groups[tensor_model_parallel_rank(rank)].push_back(rank);
  }
  return groups;
}

}  // namespace colonnade
