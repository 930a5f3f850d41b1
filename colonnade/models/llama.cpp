// colonnade/models/llama.cpp
#include "colonnade/models/llama.h"

#include "colonnade/core/error.h"
#include "colonnade/models/layer_options.h"
#include "colonnade/models/parallel_region.h"
#include "colonnade/parallel_layers/cross_entropy.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/core/grad_mode.h>
#include <torch/nn/modules/container/modulelist.h>

#include <utility>

namespace colonnade {

using at::Tensor;
namespace functional = parallel_layers::functional;

constexpr int64_t kIgnoreIndex = -100;

LlamaModelImpl::LlamaModelImpl(const LlamaOptions& options)
    : embed_tokens(embedding_options(options)),
      norm(nullptr),
      rotary_(options) {
  register_module("embed_tokens", embed_tokens);
  torch::nn::ModuleList list;
  for (int64_t layer = 0; layer < options.num_layers(); ++layer) {
    layers.emplace_back(options, layer);
    list->push_back(layers.back());
  }
  register_module("layers", list);
  norm = register_module("norm", RmsNorm(options));
}

Tensor LlamaModelImpl::forward(const Tensor& ids, const KvCache& cache) {
  rotary_.move_to(embed_tokens->weight.device());
  const Rotation rotation =
      cache ? rotary_.at(cache->positions(ids)) : rotary_.first(ids.size(1));
  Tensor x = embed_tokens(ids);
  for (LlamaBlock& layer : layers) {
    x = layer(x, rotation, cache);
  }
  return norm(x);
}

void LlamaModelImpl::set_sequence_parallel(bool enabled) {
  embed_tokens->options.sequence_parallel_enabled(enabled);
  for (LlamaBlock& layer : layers) {
    layer->set_sequence_parallel(enabled);
  }
  norm->sequence_parallel = enabled;
}

LlamaImpl::LlamaImpl(const LlamaOptions& options)
    : options_(
          options.resolved(parallel_state::get_tensor_model_parallel_size())) {
  model = register_module("model", LlamaModel(options_));
  if (!options_.tie_embeddings()) {
    lm_head = register_module(
        "lm_head",
        parallel_layers::ColumnParallelLinear(column_options(
            options_, options_.hidden_size(), options_.vocab_size())));
  }
}

void LlamaImpl::check_ids(const Tensor& ids) const {
  check_arg(ids.dim() == 2, "Llama: ids have shape ", ids.sizes(),
            "; give [batch, seq]");
  const int64_t seq = ids.size(1);
  check_arg(seq > 0, "Llama: ids of shape ", ids.sizes(),
            " hold no position; give at least one");
  check_arg(seq <= options_.max_positions(), "Llama: a sequence of ", seq,
            " is longer than max_positions ", options_.max_positions(),
            "; cut it, or build the model with more");
  if (options_.sequence_parallel()) {
    const int64_t size = parallel_state::get_tensor_model_parallel_size();
    check_arg(seq % size == 0, "Llama: a sequence of ", seq,
              " does not divide over ", size,
              " sequence-parallel ranks; cut or pad it to a multiple, or turn "
              "sequence_parallel off");
  }
}

/// This rank's part of the vocabulary, padding included.
Tensor LlamaImpl::local_logits(const Tensor& hidden) const {
  const Tensor& weight =
      options_.tie_embeddings() ? model->embed_tokens->weight : lm_head->weight;
  return functional::linear(
      enter_parallel_region(hidden, options_.sequence_parallel()), weight);
}

Tensor LlamaImpl::whole_logits(const Tensor& hidden) const {
  return parallel_layers::gather_from_tensor_model_parallel_region(
             local_logits(hidden))
      .narrow(-1, 0, options_.vocab_size());
}

Tensor LlamaImpl::forward(const Tensor& ids) {
  check_ids(ids);
  return whole_logits(model(ids));
}

Tensor LlamaImpl::cached_hidden(const Tensor& ids, KvCache& cache) {
  check_ids(ids);
  check_arg(!options_.sequence_parallel(),
            "Llama: a cache takes whole sequences, but the model is "
            "sequence-parallel; call set_sequence_parallel(false) first");
  Tensor hidden = model(ids, cache);
  cache->advance(ids.size(1));
  return hidden;
}

Tensor LlamaImpl::logits(const Tensor& ids, KvCache& cache) {
  const at::NoGradGuard no_grad;
  return whole_logits(cached_hidden(ids, cache));
}

Tensor LlamaImpl::next_logits(const Tensor& ids, KvCache& cache) {
  const at::NoGradGuard no_grad;
  return whole_logits(cached_hidden(ids, cache).select(1, -1));
}

Tensor LlamaImpl::loss(const Tensor& ids, const Tensor& targets) {
  check_ids(ids);
  check_arg(targets.sizes() == ids.sizes(), "Llama: targets of shape ",
            targets.sizes(), " do not fit ids of shape ", ids.sizes(),
            "; each id needs the one that follows it");
  const Tensor losses = parallel_layers::parallel_cross_entropy(
      local_logits(model(ids)), targets, /*label_smoothing=*/0.0, kIgnoreIndex,
      options_.vocab_size());
  return losses.sum() / targets.ne(kIgnoreIndex).sum().clamp_min(1);
}

void LlamaImpl::set_sequence_parallel(bool enabled) {
  options_.sequence_parallel(enabled);
  model->set_sequence_parallel(enabled);
}

}  // namespace colonnade
