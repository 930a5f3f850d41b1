// colonnade/models/llama_options.h
#pragma once

#include "colonnade/checkpoint/state_dict.h"

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <cstdint>

namespace colonnade {

/// What makes one Llama differ from another.
struct LlamaOptions {
  explicit LlamaOptions(int64_t vocab_size = 32000) : vocab_size_(vocab_size) {}
  TORCH_ARG(int64_t, vocab_size);  ///< Need not divide over the ranks.
  TORCH_ARG(int64_t, hidden_size) = 512;
  TORCH_ARG(int64_t, intermediate_size) = 1376;  ///< Need not divide.
  TORCH_ARG(int64_t, num_layers) = 4;
  TORCH_ARG(int64_t, num_heads) = 8;  ///< Must divide over the ranks.
  /// Heads of keys and values, each shared by num_heads / num_kv_heads query
  /// heads; may be fewer than the ranks. 0: num_heads.
  TORCH_ARG(int64_t, num_kv_heads) = 0;
  TORCH_ARG(int64_t, head_dim) = 0;  ///< 0: hidden_size / num_heads.
  TORCH_ARG(double, rope_theta) = 10000.0;
  TORCH_ARG(double, norm_eps) = 1e-5;
  TORCH_ARG(int64_t, max_positions) = 2048;  ///< The longest sequence.
  /// The head multiplies with the embedding's table.
  TORCH_ARG(bool, tie_embeddings) = false;
  /// Weights start normal with this deviation, norms as ones.
  TORCH_ARG(double, init_std) = 0.02;
  TORCH_ARG(at::ScalarType, dtype) = at::kFloat;

  // How this run holds the model; no part of its state.
  TORCH_ARG(at::Device, device) = at::kCPU;
  /// Embedding output, norms and residuals are split along the sequence over
  /// the tensor-parallel ranks.
  TORCH_ARG(bool, sequence_parallel) = false;

 public:
  /// These options with defaults that depend on others filled in. Throws
  /// InvalidArgument where they make no model, or none on `tp_size` ranks.
  LlamaOptions resolved(int64_t tp_size) const;

  /// For a checkpoint, so that it says how to build the model it fills.
  StateDict to_state() const;
  /// InvalidArgument names an entry that is missing or of another type.
  static LlamaOptions from_state(const StateDict& state);
};

}  // namespace colonnade
