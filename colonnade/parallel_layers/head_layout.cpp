// colonnade/parallel_layers/head_layout.cpp
#include "colonnade/parallel_layers/head_layout.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/recording.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/mappings.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/arange.h>
#include <torch/library.h>

#include <string_view>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;

constexpr const char* kName = "key_value_heads";

Tensor key_value_heads_kernel(const Tensor& y, int64_t num_heads,
                              int64_t num_kv_heads, int64_t head_dim,
                              std::string_view group_name) {
  const detail::NotRecordedScope inside;
  const GroupPtr& group = RankContext::current()->group(group_name);
  const int64_t size = group->size();
  const HeadLayout layout({num_heads, num_kv_heads, head_dim}, group->rank(),
                          size);
  const int64_t local = detail::round_up(num_kv_heads * head_dim, size) / size;
  check_arg(y.dim() >= 1 && y.size(-1) == local, kName, ": an input of shape ",
            y.sizes(), " is not what ", num_kv_heads, " heads of ", head_dim,
            " over ", size, " ranks yield; expected [..., ", local, "]");
  if (!layout.gather_kv) {
    return y.unflatten(-1, {layout.num_kv_heads(), head_dim});
  }
  const Tensor whole =
      gather_from_sequence_parallel_region(y, /*sequence_dimension=*/-1,
                                           /*to_model_parallel=*/true, group)
          .narrow(-1, 0, num_kv_heads * head_dim)
          .unflatten(-1, {num_kv_heads, head_dim});
  if (layout.is_even) {
    return whole.narrow(-2, layout.kv_heads.begin, layout.kv_heads.size());
  }
  const int64_t first = group->rank() * layout.num_heads;
  const Tensor of_query =
      at::arange(first, first + layout.num_heads, y.options().dtype(at::kLong))
          .floor_divide_(num_heads / num_kv_heads);
  return whole.index_select(-2, of_query);
}

TORCH_LIBRARY_FRAGMENT(colonnade, m) {
  m.def(
      "key_value_heads(Tensor(a) y, int num_heads, int num_kv_heads,"
      " int head_dim, str group) -> Tensor(a)");
}

// Autograd is that of the ops inside.
TORCH_LIBRARY_IMPL(colonnade, CompositeImplicitAutograd, m) {
  m.impl(kName, &key_value_heads_kernel);
}

}  // namespace

HeadLayout::HeadLayout(const AttentionHeads& heads, int64_t rank, int64_t size)
    : num_heads(heads.num_heads / size),
      gather_kv(heads.num_kv_heads % size != 0) {
  check_arg(heads.num_heads > 0 && heads.num_kv_heads > 0 &&
                heads.num_heads % heads.num_kv_heads == 0 &&
                heads.num_heads % size == 0,
            "HeadLayout: ", heads.num_heads, " query heads with ",
            heads.num_kv_heads, " key heads over ", size,
            " ranks; make them a multiple of both");
  const int64_t shared_by = heads.num_heads / heads.num_kv_heads;
  const int64_t first = rank * num_heads;
  const int64_t last = first + num_heads - 1;
  kv_heads = {first / shared_by, last / shared_by + 1};
  if (kv_heads.size() > 1) {
    // How many query heads the first, the last, and those between serve.
    const int64_t of_first = shared_by - first % shared_by;
    const int64_t of_last = last % shared_by + 1;
    is_even =
        of_first == of_last && (kv_heads.size() == 2 || of_first == shared_by);
  }
}

Tensor key_value_heads(const Tensor& y, const AttentionHeads& heads,
                       const GroupPtr& group) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::key_value_heads", "")
          .typed<decltype(key_value_heads_kernel)>();
  return op.call(y, heads.num_heads, heads.num_kv_heads, heads.head_dim,
                 detail::resolve_group(group, kName)->name());
}

}  // namespace colonnade::parallel_layers
