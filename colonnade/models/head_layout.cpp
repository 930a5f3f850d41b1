// colonnade/models/head_layout.cpp
#include "colonnade/models/head_layout.h"

#include <algorithm>

namespace colonnade {

HeadLayout::HeadLayout(const LlamaOptions& options, int64_t rank, int64_t size)
    : num_heads(options.num_heads() / size),
      gather_kv(options.num_kv_heads() % size != 0) {
  if (!gather_kv) {
    for (int64_t head = 0; head < options.num_kv_heads() / size; ++head) {
      kv_heads.push_back(head);
    }
    return;
  }
  const int64_t shared_by = options.num_heads() / options.num_kv_heads();
  std::vector<int64_t> of_query;  // the key head of each query head
  for (int64_t head = 0; head < num_heads; ++head) {
    of_query.push_back((rank * num_heads + head) / shared_by);
  }
  kv_heads = of_query;
  kv_heads.erase(std::unique(kv_heads.begin(), kv_heads.end()), kv_heads.end());
  const auto uses = num_heads / static_cast<int64_t>(kv_heads.size());
  const bool even =
      std::all_of(kv_heads.begin(), kv_heads.end(), [&](int64_t head) {
        return std::count(of_query.begin(), of_query.end(), head) == uses;
      });
  if (!even) {
    kv_heads = of_query;  // one for each query head
  }
}

}  // namespace colonnade
