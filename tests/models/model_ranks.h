// tests/models/model_ranks.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace colonnade::testing {

/// Runs `body` on dp * tp thread ranks with parallel state set up and
/// generators seeded alike.
void run_model_ranks(int64_t tp, const std::function<void()>& body,
                     int64_t dp = 1);

/// A Llama small enough for tests, in double, of sizes that divide over few
/// degrees: 29 tokens, 12 heads, an intermediate size of 22.
LlamaOptions tiny_options();

/// Random ids below `vocab_size`, [batch, seq], the same in every call.
at::Tensor some_ids(int64_t batch, int64_t seq, int64_t vocab_size = 29,
                    uint64_t seed = 1);

}  // namespace colonnade::testing
