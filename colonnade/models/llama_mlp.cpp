// colonnade/models/llama_mlp.cpp
#include "colonnade/models/llama_mlp.h"

#include "colonnade/models/layer_options.h"
#include "colonnade/models/parallel_region.h"
#include "colonnade/models/swiglu.h"
#include "colonnade/parallel_layers/functional.h"

namespace colonnade {

namespace functional = parallel_layers::functional;

LlamaMlpImpl::LlamaMlpImpl(const LlamaOptions& options)
    : sequence_parallel(options.sequence_parallel()),
      gate_proj(column_options(options, options.hidden_size(),
                               options.intermediate_size())),
      up_proj(column_options(options, options.hidden_size(),
                             options.intermediate_size())),
      down_proj(row_options(options, options.intermediate_size(),
                            options.hidden_size())) {
  register_module("gate_proj", gate_proj);
  register_module("up_proj", up_proj);
  register_module("down_proj", down_proj);
}

at::Tensor LlamaMlpImpl::forward(const at::Tensor& x) {
  const at::Tensor whole = enter_parallel_region(x, sequence_parallel);
  return down_proj(swiglu(functional::linear(whole, gate_proj->weight),
                          functional::linear(whole, up_proj->weight)));
}

}  // namespace colonnade
