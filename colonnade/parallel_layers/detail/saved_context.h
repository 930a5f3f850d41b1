// colonnade/parallel_layers/detail/saved_context.h
#pragma once

#include "colonnade/comm/rank_context.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace colonnade::parallel_layers::detail {

/// A rank's context in what an autograd node saves.
struct ContextCapsule : torch::CustomClassHolder {
  explicit ContextCapsule(RankContextPtr saved) : context(std::move(saved)) {}
  RankContextPtr context;
};

/// Keeps the calling rank's context for the node's backward.
inline void save_context(torch::autograd::AutogradContext* ctx) {
  ctx->saved_data["context"] = c10::IValue::make_capsule(
      c10::make_intrusive<ContextCapsule>(RankContext::current()));
}

/// What save_context kept.
inline RankContextPtr saved_context(torch::autograd::AutogradContext* ctx) {
  const auto capsule = ctx->saved_data["context"].toCapsule();
  return static_cast<ContextCapsule&>(*capsule).context;
}

}  // namespace colonnade::parallel_layers::detail
