// colonnade/models/kv_cache.cpp
#include "colonnade/models/kv_cache.h"

#include "colonnade/core/error.h"
#include "colonnade/models/head_layout.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/ops/zeros.h>

namespace colonnade {

KvCache::KvCache(const LlamaOptions& options, int64_t batch, int64_t max_length)
    : batch_(batch), max_length_(max_length) {
  const int64_t size = parallel_state::get_tensor_model_parallel_size();
  const LlamaOptions resolved = options.resolved(size);
  check_arg(batch > 0 && max_length > 0, "KvCache: batch ", batch,
            " and max_length ", max_length, " must be positive");
  check_arg(max_length <= resolved.max_positions(), "KvCache: max_length ",
            max_length, " is more than the model's max_positions ",
            resolved.max_positions());
  const HeadLayout layout(
      resolved, parallel_state::get_tensor_model_parallel_rank(), size);
  const std::vector<int64_t> shape{batch,
                                   static_cast<int64_t>(layout.kv_heads.size()),
                                   max_length, resolved.head_dim()};
  const auto tensor_options =
      at::TensorOptions().dtype(resolved.dtype()).device(resolved.device());
  for (int64_t layer = 0; layer < resolved.num_layers(); ++layer) {
    layers_.emplace_back(at::zeros(shape, tensor_options),
                         at::zeros(shape, tensor_options));
  }
}

void KvCache::check_fits(int64_t batch, int64_t seq) const {
  check_arg(batch == batch_, "KvCache: ", batch,
            " sequences do not fit a cache made for ", batch_,
            "; make one of that size");
  check_arg(length_ + seq <= max_length_, "KvCache: ", seq, " positions after ",
            length_, " are more than max_length ", max_length_,
            "; make a longer cache or clear() it");
}

KvCache::KeysAndValues KvCache::append(int64_t layer, const at::Tensor& keys,
                                       const at::Tensor& values) {
  const int64_t seq = keys.size(2);
  const auto& [all_keys, all_values] = layers_.at(layer);
  all_keys.narrow(2, length_, seq).copy_(keys);
  all_values.narrow(2, length_, seq).copy_(values);
  return {all_keys.narrow(2, 0, length_ + seq),
          all_values.narrow(2, 0, length_ + seq)};
}

}  // namespace colonnade
