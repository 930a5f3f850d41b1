// tests/models/model_ranks.cpp
#include "tests/models/model_ranks.h"

#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randint.h>

namespace colonnade::testing {

void run_model_ranks(int64_t tp, const std::function<void()>& body,
                     int64_t dp) {
  run_ranks(static_cast<int>(tp * dp), [&] {
    parallel_state::initialize_model_parallel(tp);
    manual_seed(7);
    body();
  });
}

LlamaOptions tiny_options() {
  return LlamaOptions(29)
      .hidden_size(16)
      .intermediate_size(22)
      .num_layers(2)
      .num_heads(12)
      .head_dim(4)
      .max_positions(24)
      .init_std(0.3)
      .dtype(at::kDouble);
}

at::Tensor some_ids(int64_t batch, int64_t seq, int64_t vocab_size,
                    uint64_t seed) {
  return at::randint(0, vocab_size, {batch, seq},
                     at::detail::createCPUGenerator(seed),
                     at::TensorOptions().dtype(at::kLong));
}

}  // namespace colonnade::testing
