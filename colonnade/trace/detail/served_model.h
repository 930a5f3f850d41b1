// colonnade/trace/detail/served_model.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/launch/rank_pool.h"
#include "colonnade/trace/detail/program.h"
#include "colonnade/trace/detail/tracing_ranks.h"
#include "colonnade/trace/graph.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace colonnade::trace::detail {

/// The state of one session on one rank: a tensor for each weight that is one.
struct RankState {
  uint64_t session = 0;  ///< A number of its own.
  std::vector<at::Tensor> tensors;
};

/// The states of one session, by rank.
using SessionState = std::vector<RankState>;

/// A graph with its weights on all ranks that this process has: thread ranks in
/// a pool, or the one rank that is the calling thread. Shared by the sessions
/// of a model.
class ServedModel {
 public:
  /// Thread ranks. Weights are on `device`.
  ServedModel(Graph graph, std::vector<RankWeights> weights,
              std::unique_ptr<RankPool> pool, at::Device device, bool optimize);
  /// The calling rank; every rank of its tensor-parallel group makes one.
  ServedModel(Graph graph, RankWeights weights, at::Device device,
              bool optimize);

  const Graph& graph() const { return graph_; }  ///< As traced.
  const Graph& optimized_graph() const;
  at::Device device() const { return device_; }
  int degree() const { return degree_; }
  bool is_collective() const { return pool_ == nullptr; }
  /// Of the ranks of this process: all, or the calling one.
  const std::vector<RankWeights>& weights() const { return weights_; }

  SessionState make_state() const;
  /// Puts a session back to the state in which it was made. Not while it runs.
  void reset(SessionState& state) const;

  /// One pass. Returns the outputs of the ranks of this process.
  ///
  /// observer  of the first of them; may be null
  std::vector<c10::IValue> run(SessionState& state,
                               const std::vector<c10::IValue>& inputs,
                               RunObserver* observer);

  /// Runs `body` on every rank of this process, while no pass runs.
  void run_on_ranks(c10::function_ref<void(int)> body);

 private:
  struct Rank {
    std::unique_ptr<Frame> frame;
    uint64_t session = 0;  ///< Whose state is bound.
  };

  void prepare(bool optimize);

  Graph graph_;
  std::vector<RankWeights> weights_;
  std::vector<size_t> state_weights_;  ///< Those that are states.
  at::Device device_;
  int degree_;
  std::unique_ptr<RankPool> pool_;  ///< Null: the calling thread is the rank.
  std::shared_ptr<const Program> program_;
  std::vector<Rank> ranks_;
};

}  // namespace colonnade::trace::detail
