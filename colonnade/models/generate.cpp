// colonnade/models/generate.cpp
#include "colonnade/models/generate.h"

#include "colonnade/core/error.h"
#include "colonnade/models/kv_cache.h"
#include "colonnade/models/sampling.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <span>

namespace colonnade {
namespace {

/// Runs the model on whole sequences; the old way is back at the end.
class WholeSequenceScope {
 public:
  explicit WholeSequenceScope(Llama& model)
      : model_(model), previous_(model->options().sequence_parallel()) {
    model_->set_sequence_parallel(false);
  }
  ~WholeSequenceScope() { model_->set_sequence_parallel(previous_); }
  WholeSequenceScope(const WholeSequenceScope&) = delete;
  WholeSequenceScope& operator=(const WholeSequenceScope&) = delete;

 private:
  Llama& model_;
  bool previous_;
};

/// Logits are equal on every rank, and so is what is chosen from them.
GeneratedToken choose(const at::Tensor& logits, const GenerateOptions& options,
                      at::Generator& generator) {
  BestToken token = best_token(logits);
  if (options.temperature > 0) {
    token.id = draw_token(token_probabilities(logits, options.temperature,
                                              options.top_k, options.top_p),
                          generator);
  }
  return {token.id, token.margin};
}

bool any_rank(bool mine, at::Device device) {
  at::Tensor flag = at::full(
      {1}, mine ? 1 : 0, at::TensorOptions().dtype(at::kInt).device(device));
  parallel_state::get_tensor_model_parallel_group()->all_reduce(flag,
                                                                ReduceOp::kMax);
  return flag.item<int>() != 0;
}

/// The last `count` of `text`, or all, as [1, seq].
at::Tensor last_ids(const std::vector<int64_t>& text, int64_t count,
                    at::Device device) {
  const auto size = static_cast<int64_t>(text.size());
  const at::IntArrayRef ids(text);
  return at::tensor(ids.slice(std::max<int64_t>(size - count, 0)))
      .unsqueeze(0)
      .to(device);
}

}  // namespace

std::vector<GeneratedToken> generate(Llama& model,
                                     const std::vector<int64_t>& prompt,
                                     const GenerateOptions& options,
                                     const OnToken& on_token) {
  check_arg(!prompt.empty(),
            "Generate: the prompt is empty; give at least one token");
  check_arg(options.max_new_tokens >= 0, "Generate: max_new_tokens is ",
            options.max_new_tokens, "; it cannot be negative");
  check_sampling(options.temperature, options.top_k, options.top_p);

  const c10::InferenceMode inference;
  const WholeSequenceScope whole_sequence(model);
  const at::Device device = model->options().device();
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  std::vector<int64_t> text = prompt;
  const int64_t window = model->options().max_positions();
  const auto wanted =
      static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
  KvCache cache(model->options(), /*batch=*/1, std::min(window, wanted));
  at::Tensor next = last_ids(text, window, device);
  std::vector<GeneratedToken> made;
  while (static_cast<int64_t>(made.size()) < options.max_new_tokens) {
    const GeneratedToken token =
        choose(model->next_logits(next, cache)[0], options, generator);
    made.push_back(token);
    text.push_back(token.id);
    if (any_rank(on_token != nullptr && !on_token(token), device)) {
      break;
    }
    if (cache->length() < cache->max_length()) {
      next = last_ids(text, 1, device);
    } else {
      cache->clear();
      next = last_ids(text, std::max<int64_t>(window / 2, 1), device);
    }
  }
  return made;
}

}  // namespace colonnade
