// colonnade/train/train_observer.h
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace colonnade {

struct TrainStart {
  int64_t first_step;       ///< 0, or that of the checkpoint.
  int64_t steps;            ///< Of the whole run.
  int64_t parameters;       ///< Of the unsharded model.
  int64_t tokens_per_step;  ///< Over all data-parallel ranks.
};

struct StepReport {
  int64_t step;  ///< Steps done, this one included.
  double loss;   ///< Nats a token, the mean over the step, before the update.
  double grad_norm;  ///< Before clipping.
  double learning_rate;
};

struct EvaluationReport {
  int64_t step;
  double loss;  ///< Nats a token of the held-out text.
};

struct TrainEnd {
  int64_t step;      ///< Steps done.
  bool interrupted;  ///< The observer asked to stop.
  /// The most that each rank's tensors took at a time, in rank order; zeros
  /// where the caching allocator, which counts, is not installed.
  std::vector<int64_t> peak_memory_bytes;
};

/// Hears how a run goes. The library does not print: a program does that here.
///
/// Called on world rank 0 only, between steps, so what takes long here holds up
/// all ranks.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_start(const TrainStart&) {}
  virtual void on_step(const StepReport&) {}
  virtual void on_evaluation(const EvaluationReport&) {}
  virtual void on_checkpoint(const std::filesystem::path&) {}
  virtual void on_end(const TrainEnd&) {}
  /// Asked in every step. True ends the run after it, with a checkpoint.
  virtual bool wants_to_stop() { return false; }
};

}  // namespace colonnade
