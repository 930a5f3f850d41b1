// colonnade/parallel_layers/detail/saved_context.h
#pragma once

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/rank_context.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

namespace colonnade::parallel_layers::detail {

/// The rank and the layer of a forward, as its backward needs them.
struct SavedContext : torch::CustomClassHolder {
  RankContextPtr context = RankContext::current();
  CallSite site = CallSite::current().in_backward();
};

/// A backward enters what its forward saved: autograd may run it on another
/// thread.
class SavedContextScope {
 public:
  explicit SavedContextScope(const SavedContext& saved)
      : context_(saved.context), site_(saved.site) {}
  /// What save_context kept.
  explicit SavedContextScope(torch::autograd::AutogradContext* ctx)
      : SavedContextScope(static_cast<SavedContext&>(
            *ctx->saved_data["context"].toCapsule())) {}

 private:
  RankContextScope context_;
  CallSiteScope site_;
};

/// Keeps the calling thread's for the backward of an autograd function.
inline void save_context(torch::autograd::AutogradContext* ctx) {
  ctx->saved_data["context"] =
      c10::IValue::make_capsule(c10::make_intrusive<SavedContext>());
}

}  // namespace colonnade::parallel_layers::detail
