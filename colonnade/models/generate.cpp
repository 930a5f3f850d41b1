// colonnade/models/generate.cpp
#include "colonnade/models/generate.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/core/error.h"
#include "colonnade/models/kv_cache.h"
#include "colonnade/models/sampling.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

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

class LlamaDecoder final : public Decoder {
 public:
  LlamaDecoder(Llama& model, int64_t max_length)
      : model_(model),
        whole_sequence_(model),
        cache_(model->options(), /*batch=*/1, max_length) {}

  int64_t max_length() const override { return cache_->max_length(); }
  at::Tensor next_logits(at::IntArrayRef ids) override {
    return model_->next_logits(
        at::tensor(ids).unsqueeze(0).to(model_->options().device()), cache_)[0];
  }
  void reset() override { cache_->clear(); }

 private:
  Llama& model_;
  WholeSequenceScope whole_sequence_;
  KvCache cache_;
};

/// The last `count` of `text`, or all.
at::IntArrayRef last_ids(at::IntArrayRef text, int64_t count) {
  const auto size = static_cast<int64_t>(text.size());
  return text.slice(static_cast<size_t>(std::max<int64_t>(size - count, 0)));
}

void check_request(const std::vector<int64_t>& prompt,
                   const GenerateOptions& options) {
  check_arg(!prompt.empty(),
            "Generate: the prompt is empty; give at least one token");
  check_arg(options.max_new_tokens >= 0, "Generate: max_new_tokens is ",
            options.max_new_tokens, "; it cannot be negative");
  check_sampling(options.temperature, options.top_k, options.top_p);
}

}  // namespace

std::vector<GeneratedToken> generate(Decoder& decoder,
                                     const std::vector<int64_t>& prompt,
                                     const GenerateOptions& options,
                                     const OnToken& on_token) {
  check_request(prompt, options);
  const c10::InferenceMode inference;
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  std::vector<int64_t> text = prompt;
  at::IntArrayRef next = last_ids(text, decoder.max_length());
  int64_t held = 0;
  std::vector<GeneratedToken> made;
  while (static_cast<int64_t>(made.size()) < options.max_new_tokens) {
    const GeneratedToken token =
        choose(decoder.next_logits(next), options, generator);
    held += static_cast<int64_t>(next.size());
    made.push_back(token);
    text.push_back(token.id);
    if (on_token != nullptr && !on_token(token)) {
      break;
    }
    if (held < decoder.max_length()) {
      next = last_ids(text, 1);
    } else {
      decoder.reset();
      held = 0;
      next = last_ids(text, std::max<int64_t>(decoder.max_length() / 2, 1));
    }
  }
  return made;
}

std::vector<GeneratedToken> generate(Llama& model,
                                     const std::vector<int64_t>& prompt,
                                     const GenerateOptions& options,
                                     const OnToken& on_token) {
  check_request(prompt, options);
  const c10::InferenceMode inference;
  const auto wanted =
      static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
  LlamaDecoder decoder(model,
                       std::min(model->options().max_positions(), wanted));
  return generate(decoder, prompt, options, [&](const GeneratedToken& token) {
    return !any_rank(on_token != nullptr && !on_token(token),
                     model->options().device());
  });
}

bool any_rank(bool mine, at::Device device) {
  const CallSiteScope site(CallSite("generate"));
  at::Tensor flag = at::full(
      {1}, mine ? 1 : 0, at::TensorOptions().dtype(at::kInt).device(device));
  parallel_state::get_tensor_model_parallel_group()->all_reduce(flag,
                                                                ReduceOp::kMax);
  return flag.item<int>() != 0;
}

}  // namespace colonnade
