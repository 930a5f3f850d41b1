// tests/parallel_layers/tensor_parallel_ranks.h
#pragma once

#include "colonnade/parallel_state/parallel_state.h"
#include "tests/testing/run_on_ranks.h"

namespace colonnade {

/// Runs `body` on `dp * tp` ranks, in groups of `tp`.
template <typename Body>
void run_tensor_parallel(int tp, Body&& body, int dp = 1) {
  run_on_ranks(tp * dp, [&] {
    parallel_state::initialize_model_parallel(tp);
    body();
  });
}

}  // namespace colonnade
