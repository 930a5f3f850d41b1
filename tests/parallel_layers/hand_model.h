// tests/parallel_layers/hand_model.h
#pragma once

#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace colonnade {

/// A tensor of `shape` whose elements all differ, and differ by seed.
inline at::Tensor distinct(at::IntArrayRef shape, int64_t seed) {
  const at::Tensor flat =
      torch::arange(c10::multiply_integers(shape), torch::kDouble);
  return (flat * 0.37 + static_cast<double>(seed) * 1000).reshape(shape);
}

/// Parameters of every kind of split, made by hand at the current
/// tensor-parallel degree (1 without parallel state): what a checkpoint must
/// hold, without the layers.
struct HandModel : torch::nn::Module {
  explicit HandModel(int64_t seed) {
    namespace ps = parallel_state;
    int64_t rank = 0;
    int64_t size = 1;
    if (ps::model_parallel_is_initialized()) {
      rank = ps::get_tensor_model_parallel_rank();
      size = ps::get_tensor_model_parallel_size();
    }
    const std::vector<int64_t> fused = {12, 24, 12};
    split_into("rows", distinct({12, 5}, seed + 1),
               ShardSpec::even(0, 12, rank, size));
    split_into("columns", distinct({5, 24}, seed + 2),
               ShardSpec::even(1, 24, rank, size));
    split_into("middle", distinct({2, 12, 3}, seed + 3).to(torch::kBFloat16),
               ShardSpec::even(1, 12, rank, size));
    split_into("fused", distinct({48, 3}, seed + 4).to(torch::kFloat),
               ShardSpec::segments(0, fused, rank, size));
    split_into("vocabulary", distinct({10, 4}, seed + 5).to(torch::kFloat),
               ShardSpec::padded(0, 10, rank, size));
    // Two heads of three rows: ranks share a head where there are more ranks.
    const int64_t head = rank * 2 / size;
    const IndexRange rows =
        size == 1 ? IndexRange{0, 6} : IndexRange{3 * head, 3 * head + 3};
    split_into("shared_heads", distinct({6, 4}, seed + 6).to(torch::kHalf),
               ShardSpec{0, 6, {rows}, rows.size()});
    keep("norm", distinct({7}, seed + 7).to(torch::kFloat));
    keep("scale", distinct({}, seed + 8).to(torch::kFloat));
    keep("empty", torch::empty({0, 3}));
    register_parameter("head", vocabulary());  // tied
    register_buffer("mask", distinct({9}, seed).remainder(2).gt(1));
    register_buffer("steps", torch::full({}, seed, torch::kLong));
  }

  at::Tensor& vocabulary() { return parameters_["vocabulary"]; }

  /// Name, whole value, and this rank's spec or none, of all that differs.
  struct Whole {
    std::string name;
    at::Tensor value;
    std::optional<ShardSpec> spec;
  };
  std::vector<Whole> wholes;

 private:
  void split_into(const std::string& name, const at::Tensor& whole,
                  const ShardSpec& spec) {
    at::Tensor parameter = register_parameter(name, split(whole, spec));
    set_tensor_parallel_attributes(
        parameter,
        {spec, std::string(parallel_state::kTensorModelParallelGroup)});
    wholes.push_back({name, whole, spec});
  }

  void keep(const std::string& name, const at::Tensor& whole) {
    register_parameter(name, whole.clone());
    wholes.push_back({name, whole, std::nullopt});
  }
};

/// Are the two equal bit for bit?
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) {
    return false;
  }
  const at::Tensor x = a.detach().contiguous();
  const at::Tensor y = b.detach().contiguous();
  return x.nbytes() == 0 ||
         std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

/// Expects the weights that `want` was made with, bit for bit.
inline void expect_weights(const HandModel& got, const HandModel& want) {
  for (const auto& [name, whole, spec] : want.wholes) {
    const at::Tensor expected = spec.has_value() ? split(whole, *spec) : whole;
    EXPECT_TRUE(same_bits(got.named_parameters()[name], expected)) << name;
  }
  for (const char* name : {"mask", "steps"}) {
    EXPECT_TRUE(
        same_bits(got.named_buffers()[name], want.named_buffers()[name]))
        << name;
  }
}

/// Steps [begin, end) of a training whose gradients depend on the step and the
/// place in the whole only.
inline void train(HandModel& model, torch::optim::Optimizer& optimizer,
                  int64_t begin, int64_t end) {
  for (int64_t step = begin; step < end; ++step) {
    for (const auto& [name, whole, spec] : model.wholes) {
      const at::Tensor grad =
          (distinct(whole.sizes(), step) * 0.013).sin().to(whole.dtype());
      model.named_parameters()[name].mutable_grad() =
          spec.has_value() ? split(grad, *spec) : grad;
    }
    optimizer.step();
  }
}

}  // namespace colonnade
