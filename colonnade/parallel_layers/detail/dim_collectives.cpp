// colonnade/parallel_layers/detail/dim_collectives.cpp
#include "colonnade/parallel_layers/detail/dim_collectives.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"

#include <ATen/ops/empty.h>
#include <c10/util/SmallVector.h>

namespace colonnade::parallel_layers::detail {

int64_t wrap_dim(const at::Tensor& x, int64_t dim, std::string_view subject) {
  check_arg(-x.dim() <= dim && dim < x.dim(), subject, ": dim ", dim,
            " is outside of a tensor of shape ", x.sizes());
  return dim < 0 ? dim + x.dim() : dim;
}

int64_t part_size(const at::Tensor& x, int64_t dim, int64_t ranks,
                  std::string_view subject) {
  const int64_t size = x.size(dim);
  check_arg(size % ranks == 0, subject, ": size ", size, " of dim ", dim,
            " of a tensor of shape ", x.sizes(), " does not divide over ",
            ranks, " ranks; pad it to ", round_up(size, ranks));
  return size / ranks;
}

at::Tensor all_reduce(const at::Tensor& x, Group& group) {
  at::Tensor sum = x.clone(at::MemoryFormat::Contiguous);
  if (!x.is_meta()) {
    group.all_reduce(sum);
  }
  return sum;
}

at::Tensor all_gather(const at::Tensor& x, int64_t dim, Group& group) {
  c10::SmallVector<int64_t, 6> shape{group.size()};
  shape.append(x.sizes().begin(), x.sizes().end());
  at::Tensor parts = at::empty(shape, x.options());  // [P, a..., part, b...]
  if (!x.is_meta()) {
    group.all_gather(parts, x.contiguous());
  }
  return parts.movedim(0, dim).flatten(dim, dim + 1);
}

at::Tensor reduce_scatter(const at::Tensor& x, int64_t dim, Group& group,
                          std::string_view subject) {
  const int64_t part = part_size(x, dim, group.size(), subject);
  c10::SmallVector<int64_t, 6> shape(x.sizes().begin(), x.sizes().end());
  shape[dim] = part;
  at::Tensor sum = at::empty(shape, x.options());
  if (!x.is_meta()) {
    const at::Tensor parts =
        x.unflatten(dim, {group.size(), part}).movedim(dim, 0).contiguous();
    group.reduce_scatter(sum, parts);
  }
  return sum;
}

at::Tensor own_part(const at::Tensor& x, int64_t dim, const Group& group,
                    std::string_view subject) {
  const int64_t part = part_size(x, dim, group.size(), subject);
  return x.narrow(dim, group.rank() * part, part)
      .clone(at::MemoryFormat::Contiguous);
}

}  // namespace colonnade::parallel_layers::detail
