#include "colonnade/parallel_layers/name_layers.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

namespace colonnade::parallel_layers {
namespace {

template <typename Layer>
void name_if(torch::nn::Module& module, const CallSite& name) {
  if (auto* const layer = module.as<Layer>()) {
    layer->call_site = name;
  }
}

}  // namespace

void name_layers(torch::nn::Module& model) {
  const auto layers = model.named_modules(/*name_prefix=*/"",
                                          /*include_self=*/false);
  for (const auto& layer : layers) {
    const CallSite name(concat("layer ", layer.key()));
    name_if<ColumnParallelLinear>(*layer.value(), name);
    name_if<RowParallelLinear>(*layer.value(), name);
    name_if<ParallelEmbedding>(*layer.value(), name);
  }
}

}  // namespace colonnade::parallel_layers
