// colonnade/parallel_layers/parallel_embedding.cpp
#include "colonnade/parallel_layers/parallel_embedding.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/layer_parameters.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/functional.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/init.h>

#include <utility>

namespace colonnade::parallel_layers {

ParallelEmbeddingImpl::ParallelEmbeddingImpl(ParallelEmbeddingOptions options_)
    : options(std::move(options_)) {
  // NOLINTNEXTLINE(clang-analyzer-optin.cplusplus.VirtualCall)
  reset();
}

void ParallelEmbeddingImpl::reset() {
  const GroupPtr group =
      detail::resolve_group(options.group(), "ParallelEmbedding");
  const int64_t size = options.num_embeddings();
  check_arg(size >= 0, "ParallelEmbedding: num_embeddings is ", size,
            "; expected 0 or more");
  if (options.padding_idx()) {
    int64_t& index = *options.padding_idx();
    check_arg(-size <= index && index < size, "ParallelEmbedding: padding_idx ",
              index, " is outside [", -size, ", ", size, ")");
    index = index < 0 ? index + size : index;
  }
  const ShardSpec spec =
      options.shard_across_embedding()
          ? detail::layer_spec({.layer = "ParallelEmbedding",
                                .name = "embedding_dim",
                                .dim = 1,
                                .size = options.embedding_dim(),
                                .pad = options.pad()},
                               *group)
          : ShardSpec::padded(/*dim=*/0, size, group->rank(), group->size());
  weight = register_parameter(
      "weight",
      detail::empty_shard({size, options.embedding_dim()}, spec, *group,
                          at::device(options.device()).dtype(options.dtype())));
  reset_parameters();
}

void ParallelEmbeddingImpl::reset_parameters() {
  init_parameter(weight, [this](at::Tensor& whole) {
    if (options.init_method()) {
      options.init_method()(whole);
    } else {
      torch::nn::init::normal_(whole);
    }
    if (options.padding_idx()) {
      whole[*options.padding_idx()].zero_();
    }
  });
}

at::Tensor ParallelEmbeddingImpl::forward(const at::Tensor& ids) {
  const CallSiteScope scope(call_site);
  return functional::parallel_embedding(
      ids, weight,
      {.num_embeddings = options.num_embeddings(),
       .padding_idx = options.padding_idx(),
       .sequence_parallel_enabled = options.sequence_parallel_enabled(),
       .sequence_dimension = options.sequence_dimension(),
       .shard_across_embedding = options.shard_across_embedding(),
       .embedding_dim = options.embedding_dim(),
       .reduce_dtype = options.reduce_dtype()},
      options.group());
}

std::shared_ptr<torch::nn::Module> ParallelEmbeddingImpl::clone(
    const std::optional<at::Device>& device) const {
  auto copy = std::make_shared<ParallelEmbeddingImpl>(*this);
  copy->options.device(device.value_or(options.device()));
  copy->weight = copy->parameters_["weight"] =
      detail::copy_parameter(weight, device);
  return copy;
}

void ParallelEmbeddingImpl::pretty_print(std::ostream& stream) const {
  stream << "colonnade::parallel_layers::ParallelEmbedding(num_embeddings="
         << options.num_embeddings()
         << ", embedding_dim=" << options.embedding_dim();
  if (options.padding_idx()) {
    stream << ", padding_idx=" << *options.padding_idx();
  }
  stream << ")";
}

}  // namespace colonnade::parallel_layers
