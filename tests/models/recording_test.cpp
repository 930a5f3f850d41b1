// tests/models/recording_test.cpp
// That a Llama makes the same dispatcher calls, with the same numbers, on every
// rank, at every degree and with any length of its cache: what a recorded graph
// needs.
#include "colonnade/models/cached_llama.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/models/model_ranks.h"
#include "tests/testing/expect.h"
#include "tests/testing/recorded_calls.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace colonnade {
namespace {

using Calls = std::vector<std::string>;
using testing::expect_close;
using testing::recorded_calls;
using testing::run_model_ranks;
using testing::some_ids;
using testing::tiny_options;

/// Expects every rank at every degree to get the same calls from `body`.
void expect_same_calls(const std::function<Calls()>& body) {
  Calls want;
  run_model_ranks(1, [&] { want = body(); });
  for (const int64_t tp : {2, 3, 4}) {
    std::vector<Calls> got(tp);
    run_model_ranks(tp, [&] {
      got[parallel_state::get_tensor_model_parallel_rank()] = body();
    });
    for (const Calls& calls : got) {
      EXPECT_EQ(calls, want) << "at degree " << tp;
    }
  }
}

// Key heads that divide over the ranks, that are shared evenly, and unevenly.
class RecordingTest : public ::testing::TestWithParam<int> {
 protected:
  static LlamaOptions options() {
    return tiny_options().num_kv_heads(GetParam());
  }
};

TEST_P(RecordingTest, ForwardMakesTheSameCallsAtEveryDegree) {
  for (const bool tied : {false, true}) {
    for (const bool sequence_parallel : {false, true}) {
      expect_same_calls([&] {
        const at::NoGradGuard no_grad;
        Llama model(options().tie_embeddings(tied).sequence_parallel(
            sequence_parallel));
        const at::Tensor ids = some_ids(2, 12);
        const at::Tensor want = model(ids);
        at::Tensor got;
        const Calls calls = recorded_calls([&] { got = model(ids); });
        expect_close(got, want, 1e-12, "logits");
        return calls;
      });
    }
  }
}

TEST_P(RecordingTest, CachedStepMakesTheSameCallsAtEveryDegreeAndLength) {
  for (const bool tied : {false, true}) {
    expect_same_calls([&] {
      CachedLlama model(options().tie_embeddings(tied), 2, 12);
      const at::Tensor ids = some_ids(2, 9);
      const at::Tensor want = model->llama(ids);
      Calls first;
      for (int64_t past = 0; past < 9; past += 3) {
        const at::Tensor next = ids.narrow(1, past, 3);
        at::Tensor got;
        const Calls calls = recorded_calls([&] { got = model(next); });
        expect_close(got, want.select(1, past + 2), 1e-10, "logits");
        first = past == 0 ? calls : first;
        EXPECT_EQ(calls, first) << "after " << past;
      }
      return first;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(KvHeads, RecordingTest,
                         ::testing::Values(12, 6, 2, 1));

TEST(Recording, DependsOnSizesInNumbersOnly) {
  run_model_ranks(2, [] {
    const at::NoGradGuard no_grad;
    CachedLlama model(tiny_options().num_kv_heads(2), 1, 12);
    const auto names = [](Calls calls) {
      for (std::string& call : calls) {
        call.resize(call.find('('));
      }
      return calls;
    };
    for (const auto& forward : std::vector<std::function<void(int64_t)>>{
             [&](int64_t seq) { model(some_ids(1, seq)); },
             [&](int64_t seq) { model->llama(some_ids(1, seq)); }}) {
      const Calls one = recorded_calls([&] { forward(1); });
      const Calls five = recorded_calls([&] { forward(5); });
      EXPECT_EQ(names(one), names(five));
      EXPECT_EQ(one, recorded_calls([&] { forward(1); }));
    }
  });
}

TEST(Recording, HoldsNoRowKernels) {
  run_model_ranks(2, [] {
    Llama model(tiny_options());
    const Calls with_gradients = recorded_calls([&] { model(some_ids(1, 4)); });
    const at::NoGradGuard no_grad;
    EXPECT_EQ(recorded_calls([&] { model(some_ids(1, 4)); }), with_gradients);
  });
}

}  // namespace
}  // namespace colonnade
