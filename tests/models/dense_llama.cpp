// tests/models/dense_llama.cpp
#include "tests/models/dense_llama.h"

#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"

#include <ATen/ATen.h>

#include <limits>

namespace colonnade::testing {

using at::Tensor;

Weights whole_weights(const Llama& model) {
  Weights weights;
  for (const auto& item : model->named_parameters()) {
    weights[item.key()] = gather_parameter(item.value());
  }
  return weights;
}

Weights whole_gradients(const Llama& model) {
  Weights gradients;
  for (const auto& item : model->named_parameters()) {
    const Tensor gradient = item.value().grad().clone();
    copy_tensor_parallel_attributes(gradient, item.value());
    gradients[item.key()] = gather_parameter(gradient);
  }
  return gradients;
}

DenseLlama::DenseLlama(const LlamaOptions& options, const Weights& whole)
    : options_(options.resolved(/*tp_size=*/1)) {
  for (const auto& [name, weight] : whole) {
    weights[name] = weight.detach().clone().requires_grad_();
  }
}

Tensor DenseLlama::norm(const Tensor& x, const std::string& name) const {
  const Tensor size = (x * x).sum(-1, true) / x.size(-1);
  return x / (size + options_.norm_eps()).sqrt() * weights.at(name + ".weight");
}

Tensor DenseLlama::linear(const Tensor& x, const std::string& name) const {
  return at::matmul(x, weights.at(name + ".weight").t());
}

/// Split into heads, [batch, heads, seq, head_dim], perhaps turned by position.
Tensor DenseLlama::heads(const Tensor& x, const std::string& name,
                         bool turned) const {
  const int64_t dim = options_.head_dim();
  const Tensor y =
      linear(x, name).view({x.size(0), x.size(1), -1, dim}).transpose(1, 2);
  if (!turned) {
    return y;
  }
  const Tensor pairs = at::view_as_complex(
      y.unflatten(-1, {2, dim / 2}).transpose(-1, -2).contiguous());
  const Tensor exponent = at::arange(0, dim, 2, x.options()) / dim;
  const Tensor angle =
      at::outer(at::arange(x.size(1), x.options()),
                at::pow(at::scalar_tensor(options_.rope_theta(), x.options()),
                        -exponent));
  const Tensor turn = at::polar(at::ones_like(angle), angle);
  return at::view_as_real(pairs * turn).transpose(-1, -2).flatten(-2);
}

Tensor DenseLlama::attention(const Tensor& x, const std::string& layer) const {
  const std::string name = layer + ".self_attn.";
  const int64_t shared_by = options_.num_heads() / options_.num_kv_heads();
  const Tensor q = heads(x, name + "q_proj", true);
  const Tensor k =
      heads(x, name + "k_proj", true).repeat_interleave(shared_by, 1);
  const Tensor v =
      heads(x, name + "v_proj", false).repeat_interleave(shared_by, 1);
  const int64_t seq = x.size(1);
  const Tensor future =
      at::ones({seq, seq}, x.options().dtype(at::kBool)).triu(1);
  const Tensor scores =
      (at::matmul(q, k.transpose(2, 3)) /
       std::sqrt(static_cast<double>(options_.head_dim())))
          .masked_fill(future, -std::numeric_limits<double>::infinity());
  return linear(at::matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2),
                name + "o_proj");
}

Tensor DenseLlama::mlp(const Tensor& x, const std::string& layer) const {
  const Tensor gate = linear(x, layer + ".mlp.gate_proj");
  const Tensor up = linear(x, layer + ".mlp.up_proj");
  return linear(gate * gate.sigmoid() * up, layer + ".mlp.down_proj");
}

Tensor DenseLlama::logits(const Tensor& ids) const {
  Tensor x = at::embedding(weights.at("model.embed_tokens.weight"), ids);
  for (int64_t i = 0; i < options_.num_layers(); ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    x = x + attention(norm(x, layer + ".input_layernorm"), layer);
    x = x + mlp(norm(x, layer + ".post_attention_layernorm"), layer);
  }
  return linear(norm(x, "model.norm"),
                options_.tie_embeddings() ? "model.embed_tokens" : "lm_head");
}

Tensor DenseLlama::loss(const Tensor& ids, const Tensor& targets) const {
  return at::cross_entropy_loss(logits(ids).flatten(0, 1), targets.flatten());
}

}  // namespace colonnade::testing
