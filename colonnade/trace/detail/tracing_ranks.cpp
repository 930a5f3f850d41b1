// colonnade/trace/detail/tracing_ranks.cpp
#include "colonnade/trace/detail/tracing_ranks.h"

#include "colonnade/checkpoint/detail/model_tensors.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/detail/thread_rank.h"
#include "colonnade/parallel_layers/name_layers.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/detail/structure.h"

#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <set>
#include <string>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::IValue;

size_t index(int rank) {
  return static_cast<size_t>(rank);
}

/// Restores the rank's generators at the end.
class RandomStateScope {
 public:
  RandomStateScope() : state_(random_state()) {}
  ~RandomStateScope() { set_random_state(state_); }
  RandomStateScope(const RandomStateScope&) = delete;
  RandomStateScope& operator=(const RandomStateScope&) = delete;

 private:
  RandomState state_;
};

/// Leaves that later passes cannot change.
std::vector<IValue> kept(std::vector<IValue> leaves) {
  for (IValue& leaf : leaves) {
    if (leaf.isTensor()) {
      leaf = leaf.toTensor().detach().clone();
    }
  }
  return leaves;
}

}  // namespace

bool called_by_rank() {
  const WorldPtr& world = RankContext::current()->world();
  return colonnade::detail::inside_rank() ||
         (world != nullptr && world->size() > 1);
}

std::function<void()> make_parallel(int degree) {
  return [degree] { parallel_state::initialize_model_parallel(degree); };
}

at::Tensor shared_zeros(at::IntArrayRef shape,
                        const at::TensorOptions& options) {
  return at::zeros({}, options).expand(shape);
}

RankModel make_rank_model(const MakeTraceable& make) {
  RankModel result;
  result.model = make();
  check_arg(result.model.module != nullptr,
            "trace: func gives no model; return a module that is not null");
  torch::nn::Module& module = *result.model.module;
  module.eval();
  parallel_layers::name_layers(module);
  std::set<std::string> parameters;
  for (const auto& item : module.named_parameters()) {
    parameters.insert(item.key());
  }
  for (const colonnade::detail::ModelTensor& item :
       colonnade::detail::model_tensors(module)) {
    check_arg(!item.tensor.is_meta(), "trace: ", item.name,
              " is on the meta device; give a model with its weights in place");
    const bool is_parameter = parameters.contains(item.name);
    result.tensors.push_back({item.name, item.tensor, is_parameter});
    if (!is_parameter) {
      result.buffers.emplace_back(item.tensor, item.tensor.detach().clone());
    }
  }
  if (!result.tensors.empty()) {
    result.device = result.tensors[0].tensor.device().type();
  }
  return result;
}

void reset_buffers(RankModel& model) {
  const c10::InferenceMode inference;
  for (const auto& [buffer, first] : model.buffers) {
    buffer.copy_(first);
  }
}

RankWeights weights_of(const Recording& recording, const RankModel& model) {
  RankWeights weights;
  const auto all = colonnade::detail::model_tensors(*model.model.module);
  for (size_t i = 0; i < recording.graph.weights.size(); ++i) {
    const Weight& weight = recording.graph.weights[i];
    weights.tensors.push_back(recording.weights[i]);
    const auto named = std::ranges::find(all, weight.name,
                                         &colonnade::detail::ModelTensor::name);
    const bool registered =
        weight.kind != Weight::Kind::kConstant && named != all.end();
    weights.attributes.push_back(registered ? named->attributes : std::nullopt);
  }
  return weights;
}

TracingRanks::TracingRanks(const MakeTraceable& make, int degree,
                           const LaunchOptions& options,
                           std::optional<uint64_t> seed)
    : pool_(std::make_unique<RankPool>(degree, make_parallel(degree), options)),
      models_(index(degree)) {
  pool_->run([&](int rank) {
    if (seed.has_value()) {
      manual_seed(*seed);
    }
    models_[index(rank)] = make_rank_model(make);
  });
}

std::vector<Recording> TracingRanks::record(const std::vector<IValue>& inputs) {
  std::vector<Recording> recordings(models_.size());
  const auto reset = [&] {
    pool_->run([&](int rank) { reset_buffers(models_[index(rank)]); });
  };
  try {
    pool_->run([&](int rank) {
      const c10::InferenceMode inference;
      const RandomStateScope random;
      const RankModel& model = models_[index(rank)];
      recordings[index(rank)] =
          detail::record(model.model.forward, inputs, model.tensors);
      recordings[index(rank)].graph.device = model.device;
    });
  } catch (...) {
    reset();
    throw;
  }
  reset();
  return recordings;
}

TracingRanks::Outputs TracingRanks::run_model(const std::vector<IValue>& inputs,
                                              int times) {
  Outputs outputs(models_.size() * index(times));
  pool_->run([&](int rank) {
    const c10::InferenceMode inference;
    const RandomStateScope random;
    RankModel& model = models_[index(rank)];
    for (int i = 0; i < times; ++i) {
      std::vector<IValue> leaves;
      flatten(model.model.forward(copy_inputs(inputs)), leaves,
              "trace: the output");
      outputs[index(i) * models_.size() + index(rank)] = kept(leaves);
    }
    reset_buffers(model);
  });
  return outputs;
}

TracingRanks::Outputs TracingRanks::run_program(
    const std::shared_ptr<const Program>& program,
    const std::vector<RankWeights>& weights, const std::vector<IValue>& leaves,
    const Numbers& numbers, int times) {
  Outputs outputs(models_.size() * index(times));
  pool_->run([&](int rank) {
    const c10::InferenceMode inference;
    const RandomStateScope random;
    Frame frame(program, weights[index(rank)].tensors);
    for (int i = 0; i < times; ++i) {
      outputs[index(i) * models_.size() + index(rank)] =
          kept(frame.run(leaves, numbers));
    }
    reset_buffers(models_[index(rank)]);
  });
  return outputs;
}

std::vector<RankWeights> TracingRanks::weights(
    const std::vector<Recording>& recordings) {
  std::vector<RankWeights> weights;
  for (size_t rank = 0; rank < models_.size(); ++rank) {
    weights.push_back(weights_of(recordings[rank], models_[rank]));
  }
  return weights;
}

std::unique_ptr<RankPool> TracingRanks::release() {
  models_.clear();
  return std::move(pool_);
}

}  // namespace colonnade::trace::detail
