// tests/consumer/main.cpp
#include <colonnade/colonnade.h>

#include <ATen/ops/ones.h>

int main() {
  double sum = 0;
  colonnade::run_ranks(2, [&](int rank) {
    colonnade::parallel_state::initialize_model_parallel(2);
    at::Tensor x = at::ones({2, 3});
    colonnade::parallel_state::get_tensor_model_parallel_group()->all_reduce(x);
    if (rank == 0) {
      sum = x.sum().item<double>();
    }
  });
  return sum == 12 ? 0 : 1;
}
