// colonnade/models/generate.h
#pragma once

#include "colonnade/models/llama.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace colonnade {

struct GenerateOptions {
  int64_t max_new_tokens = 256;
  double temperature = 0;  ///< 0 takes the likeliest token each time.
  int64_t top_k = 0;       ///< Draw from the k likeliest; 0: from all.
  double top_p = 1.0;      ///< Draw from the likeliest that reach p together.
  uint64_t seed = 0;       ///< Equal seeds draw equal texts.
};

struct GeneratedToken {
  int64_t id = 0;
  /// How far the best logit was above the second best. Where it is tiny, runs
  /// that differ in rounding (another number of ranks) may part here.
  double margin = 0;
};

/// Called for each token as it is made, on every rank that has one. False, on
/// any rank, ends the text after this token.
using OnToken = std::function<bool(const GeneratedToken&)>;

/// Continues `prompt`, with a KV cache. Collective over the tensor-parallel
/// group; every rank returns the same new tokens. A text that outgrows
/// max_positions goes on from the last half of its window.
///
/// prompt  at least one id, equal on every rank
/// Cost    one pass over the prompt, then one position a token
/// Errors  InvalidArgument where the prompt is empty or an option is out of its
///         range
std::vector<GeneratedToken> generate(Llama& model,
                                     const std::vector<int64_t>& prompt,
                                     const GenerateOptions& options = {},
                                     const OnToken& on_token = nullptr);

}  // namespace colonnade
