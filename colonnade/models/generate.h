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

/// A language model that keeps what it has read, as `generate` drives it.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Ids that it can keep.
  virtual int64_t max_length() const = 0;
  /// Reads on. All ids since the last reset are at most max_length().
  ///
  /// ids     at least one
  /// Output  the logits of what follows them, [vocab_size]
  virtual at::Tensor next_logits(at::IntArrayRef ids) = 0;
  /// Forgets all that it has read.
  virtual void reset() = 0;
};

/// Continues `prompt` with a decoder that was reset. A text that outgrows
/// max_length goes on from the last half of its window.
///
/// prompt  at least one id
/// Cost    one pass over the prompt, then one position a token
/// Errors  InvalidArgument where the prompt is empty or an option is out of its
///         range
std::vector<GeneratedToken> generate(Decoder& decoder,
                                     const std::vector<int64_t>& prompt,
                                     const GenerateOptions& options = {},
                                     const OnToken& on_token = nullptr);

/// The same with a Llama and a KV cache of up to max_positions. Collective over
/// the tensor-parallel group; every rank gives the same prompt and returns the
/// same new tokens.
std::vector<GeneratedToken> generate(Llama& model,
                                     const std::vector<int64_t>& prompt,
                                     const GenerateOptions& options = {},
                                     const OnToken& on_token = nullptr);

/// Whether `mine` is true on any rank of the tensor-parallel group. Collective;
/// `device` is that of the group's tensors.
bool any_rank(bool mine, at::Device device = at::kCPU);

}  // namespace colonnade
