// colonnade/models/sampling.h
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade {

struct BestToken {
  int64_t id = 0;
  /// How far its logit is above the second best; infinite if there is no other.
  double margin = 0;
};

/// The token of the largest logit, the first of equals.
///
/// logits  [vocab_size]
/// Errors  InvalidArgument where the largest is not a finite number
BestToken best_token(const at::Tensor& logits);

/// The probabilities that a token is drawn with.
///
/// logits       [vocab_size]
/// temperature  > 0; below 1 sharpens
/// top_k        keeps the k likeliest; 0 keeps all
/// top_p        in (0, 1]; keeps the likeliest that together reach p, at least
///              one; applied after top_k
/// Output       [vocab_size], doubles that add up to 1
at::Tensor token_probabilities(const at::Tensor& logits, double temperature,
                               int64_t top_k = 0, double top_p = 1.0);

/// InvalidArgument unless token_probabilities takes these; a temperature of 0,
/// which means best_token, is fine here.
void check_sampling(double temperature, int64_t top_k, double top_p);

/// Draws a token; one number of `generator` each.
///
/// probabilities  [vocab_size], doubles that add up to 1
int64_t draw_token(const at::Tensor& probabilities, at::Generator& generator);

}  // namespace colonnade
