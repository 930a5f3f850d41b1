// colonnade/trace/detail/tracing_ranks.h
#pragma once

#include "colonnade/launch/rank_pool.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/trace/detail/program.h"
#include "colonnade/trace/detail/recorder.h"
#include "colonnade/trace/traceable.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {

/// Whether the calling thread is a rank already: one that this library started,
/// or a process in a world of several that another one did.
bool called_by_rank();

/// A graph's weights on one rank.
struct RankWeights {
  std::vector<at::Tensor> tensors;  ///< One for each of Graph::weights.
  std::vector<std::optional<TensorParallelAttributes>> attributes;
};

/// A model on this rank, as it is recorded.
struct RankModel {
  Traceable model;
  std::vector<NamedTensor> tensors;
  std::vector<std::pair<at::Tensor, at::Tensor>> buffers;  ///< And at first.
  at::DeviceType device = at::kCPU;
};

/// Builds the model on the calling rank and puts it in eval state.
RankModel make_rank_model(const MakeTraceable& make);

/// Puts the buffers back to what they were when the model was built.
void reset_buffers(RankModel& model);

/// The weights of `recording`, with the attributes of `model`.
RankWeights weights_of(const Recording& recording, const RankModel& model);

/// Thread ranks, each with the model that is traced. What throws on a rank
/// throws here.
class TracingRanks {
 public:
  /// seed  of the ranks before they build the model; empty: torch's default
  TracingRanks(const MakeTraceable& make, int degree,
               const LaunchOptions& options, std::optional<uint64_t> seed);

  int degree() const { return pool_->size(); }
  at::DeviceType device() const { return models_[0].device; }

  /// One forward pass on every rank, noted; buffers are then as before.
  std::vector<Recording> record(const std::vector<c10::IValue>& inputs);

  /// Every rank's output leaves of `times` passes of the model in turn, from
  /// one state of buffers and generators; both are then as before.
  using Outputs = std::vector<std::vector<c10::IValue>>;  // by pass and rank
  Outputs run_model(const std::vector<c10::IValue>& inputs, int times);

  /// The same of `program`.
  Outputs run_program(const std::shared_ptr<const Program>& program,
                      const std::vector<RankWeights>& weights,
                      const std::vector<c10::IValue>& leaves,
                      const Numbers& numbers, int times);

  std::vector<RankWeights> weights(const std::vector<Recording>& recordings);

  /// Gives the ranks away; the models are dropped.
  std::unique_ptr<RankPool> release();

 private:
  std::unique_ptr<RankPool> pool_;
  std::vector<RankModel> models_;
};

/// Zeros of that shape in the memory of one.
at::Tensor shared_zeros(at::IntArrayRef shape,
                        const at::TensorOptions& options);

/// What a rank of `degree` thread ranks does first.
std::function<void()> make_parallel(int degree);

}  // namespace colonnade::trace::detail
