// colonnade/trace/detail/served_model.cpp
#include "colonnade/trace/detail/served_model.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/trace/detail/check_inputs.h"
#include "colonnade/trace/detail/passes/passes.h"
#include "colonnade/trace/detail/structure.h"

#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <atomic>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::IValue;

std::vector<size_t> find_states(const Graph& graph) {
  std::vector<size_t> states;
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    if (graph.weights[i].kind == Weight::Kind::kState) {
      states.push_back(i);
    }
  }
  return states;
}

uint64_t next_session() {
  static std::atomic<uint64_t> count{0};
  return ++count;
}

}  // namespace

ServedModel::ServedModel(Graph graph, std::vector<RankWeights> weights,
                         std::unique_ptr<RankPool> pool, at::Device device,
                         bool optimize)
    : graph_(std::move(graph)),
      weights_(std::move(weights)),
      state_weights_(find_states(graph_)),
      device_(device),
      degree_(pool->size()),
      pool_(std::move(pool)) {
  prepare(optimize);
}

ServedModel::ServedModel(Graph graph, RankWeights weights, at::Device device,
                         bool optimize)
    : graph_(std::move(graph)),
      weights_{std::move(weights)},
      state_weights_(find_states(graph_)),
      device_(device),
      degree_(
          static_cast<int>(parallel_state::get_tensor_model_parallel_size())) {
  prepare(optimize);
}

void ServedModel::prepare(bool optimize) {
  PassFacts facts;
  facts.device = device_;
  facts.degree = degree_;
  facts.weights = weights_[0].tensors;
  program_ = std::make_shared<const Program>(
      optimize ? detail::optimize(graph_, facts) : graph_, device_);
  ranks_.resize(weights_.size());
  run_on_ranks([&](int rank) {
    const auto at = static_cast<size_t>(rank);
    ranks_[at].frame = std::make_unique<Frame>(program_, weights_[at].tensors);
  });
}

const Graph& ServedModel::optimized_graph() const {
  return program_->graph();
}

void ServedModel::run_on_ranks(c10::function_ref<void(int)> body) {
  if (pool_ == nullptr) {
    body(0);
  } else {
    pool_->run(body);
  }
}

SessionState ServedModel::make_state() const {
  const c10::InferenceMode inference;
  const uint64_t session = next_session();
  SessionState state;
  for (const RankWeights& weights : weights_) {
    RankState rank{session, {}};
    for (const size_t weight : state_weights_) {
      const Tensor& first = weights.tensors[weight];
      rank.tensors.push_back(graph_.weights[weight].is_zero
                                 ? at::zeros(first.sizes(), first.options())
                                 : first.clone());
    }
    state.push_back(std::move(rank));
  }
  return state;
}

void ServedModel::reset(SessionState& state) const {
  const c10::InferenceMode inference;
  for (size_t rank = 0; rank < state.size(); ++rank) {
    for (size_t i = 0; i < state_weights_.size(); ++i) {
      state[rank].tensors[i].copy_(weights_[rank].tensors[state_weights_[i]]);
    }
  }
}

std::vector<IValue> ServedModel::run(SessionState& state,
                                     const std::vector<IValue>& inputs,
                                     RunObserver* observer) {
  const CheckedInputs checked = check_inputs(graph_, inputs, device_, degree_);
  std::vector<IValue> outputs(ranks_.size());
  run_on_ranks([&](int number) {
    const auto at = static_cast<size_t>(number);
    Rank& rank = ranks_[at];
    const RankState& own = state[at];
    if (rank.session != own.session) {
      for (size_t i = 0; i < state_weights_.size(); ++i) {
        rank.frame->set_weight(state_weights_[i], own.tensors[i]);
      }
      rank.session = own.session;
    }
    std::vector<IValue> leaves = rank.frame->run(
        checked.leaves, checked.numbers, number == 0 ? observer : nullptr);
    outputs[at] = unflatten(graph_.output_structure, leaves);
  });
  return outputs;
}

}  // namespace colonnade::trace::detail
