// colonnade/train/train_options.h
#pragma once

#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/models/llama_options.h"
#include "colonnade/train/byte_tokenizer.h"

#include <cstdint>
#include <filesystem>

namespace colonnade {

/// What a training run does. Numbers of steps and windows are whole-run, sizes
/// of batches a data-parallel rank's.
struct TrainOptions {
  LlamaOptions model{ByteTokenizer::kVocabSize};

  int64_t steps = 1000;
  uint64_t seed = 1;
  int64_t batch_size = 8;    ///< Windows in a forward pass.
  int64_t accumulation = 1;  ///< Forward passes a step.

  double learning_rate = 1e-3;
  double min_learning_rate = 1e-4;
  int64_t warmup_steps = 50;
  double weight_decay = 0.1;  ///< Of matrices; norms have none.
  double beta1 = 0.9;
  double beta2 = 0.95;
  double max_grad_norm = 1.0;

  int64_t eval_every = 100;   ///< Steps; 0: only at the end.
  int64_t eval_windows = 64;  ///< 0: all there are.
  int64_t save_every = 0;     ///< Steps; 0: only at the end.
  int64_t keep = 3;           ///< Checkpoints that stay.

  std::filesystem::path out;          ///< Empty: nothing is saved.
  std::filesystem::path resume_from;  ///< A checkpoint; empty: start anew.

  /// InvalidArgument names the first that is out of its range.
  void check() const;

  /// What a checkpoint says of its run: all but the paths, and of the model
  /// only whether it is split along the sequence.
  StateDict to_state() const;
  /// Takes over what `to_state` gave; all else stays.
  void take_state(const StateDict& state);
};

}  // namespace colonnade
