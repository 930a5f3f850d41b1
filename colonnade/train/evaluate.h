// colonnade/train/evaluate.h
#pragma once

#include "colonnade/models/llama.h"
#include "colonnade/train/text_data.h"

#include <cstdint>

namespace colonnade {

struct Evaluation {
  double loss = 0;     ///< Nats a token, the mean.
  int64_t tokens = 0;  ///< Predicted, over all ranks.
};

/// How well `model` predicts the held-out part of `data`. Collective: the
/// data-parallel ranks share the windows; every rank returns the same.
///
/// windows     the first so many; 0, or more than there are: all
/// batch_size  windows in a forward pass
/// Errors      InvalidArgument where `data` has no held-out part
Evaluation evaluate(Llama& model, const TextData& data, int64_t windows,
                    int64_t batch_size);

}  // namespace colonnade
