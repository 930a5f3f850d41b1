// colonnade/parallel_layers/detail/parallel_rows.cpp
#include "colonnade/parallel_layers/detail/parallel_rows.h"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>

namespace colonnade::parallel_layers::detail {

void parallel_rows(int64_t rows, int64_t grain,
                   c10::function_ref<void(int64_t, int64_t)> body) {
  if (rows == 0) {
    return;
  }
  if (rows <= grain || at::get_num_threads() == 1) {
    body(0, rows);
    return;
  }
  // at::parallel_for is inline, and serial without -fopenmp; an iterator over
  // the row numbers runs it inside of torch, on torch's threads.
  const at::Tensor numbers = at::arange(rows, at::kLong);
  at::TensorIterator iterator =
      at::TensorIteratorConfig().add_const_input(numbers).build();
  iterator.for_each(
      [&](char** data, const int64_t* /*strides*/, int64_t n, int64_t m) {
        const int64_t begin = *reinterpret_cast<const int64_t*>(data[0]);
        body(begin, begin + n * m);
      },
      grain);
}

}  // namespace colonnade::parallel_layers::detail
