// colonnade/train/evaluate.cpp
#include "colonnade/train/evaluate.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

namespace colonnade {

Evaluation evaluate(Llama& model, const TextData& data, int64_t windows,
                    int64_t batch_size) {
  const int64_t there = data.eval_windows();
  check_arg(there > 0, "evaluate: the text has no held-out part");
  const int64_t count = windows == 0 ? there : std::min(windows, there);

  const at::NoGradGuard no_grad;
  const GroupPtr group = parallel_state::get_data_parallel_group();
  double sum = 0;
  for (int64_t first = group->rank() * batch_size; first < count;
       first += group->size() * batch_size) {
    const int64_t rows = std::min(batch_size, count - first);
    const TokenBatch batch = data.eval_batch(first, rows);
    const double loss = model->loss(batch.inputs, batch.targets).item<double>();
    sum += loss * static_cast<double>(rows * data.seq_len());
  }
  at::Tensor total = at::tensor(sum, at::kDouble);
  group->all_reduce(total);
  const int64_t tokens = count * data.seq_len();
  return {.loss = total.item<double>() / static_cast<double>(tokens),
          .tokens = tokens};
}

}  // namespace colonnade
