// colonnade/checkpoint/detail/model_tensors.h
#pragma once

#include "colonnade/sharding/attributes.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace torch::nn {
class Module;
}

namespace colonnade::detail {

/// A parameter or buffer of a module.
struct ModelTensor {
  std::string name;
  at::Tensor tensor;
  std::optional<TensorParallelAttributes> attributes;

  std::vector<int64_t> whole_shape() const;  ///< That it has unsharded.
};

/// Parameters, then buffers; a tied one once under each of its names.
std::vector<ModelTensor> model_tensors(const torch::nn::Module& module);

/// May a value of one dtype fill a tensor of the other? Equal, or both floating
/// point, as in torch's load_state_dict.
bool can_fill(at::ScalarType to, at::ScalarType from);

/// "F32 [4, 8]".
std::string show_tensor(at::ScalarType dtype, at::IntArrayRef shape);

/// Collects what does not fit between a model and what is to fill it, for one
/// error. `wanted` and `found` are dtypes and shapes, for people.
class KeyReport {
 public:
  void missing(std::string_view name, std::string_view wanted);
  void unexpected(std::string_view name, std::string_view found);
  void mismatched(std::string_view name, std::string_view wanted,
                  std::string_view found);

  /// InvalidArgument lists everything, unless there is nothing.
  void throw_if_any(std::string_view subject) const;

 private:
  std::string missing_;
  std::string unexpected_;
  std::string mismatched_;
};

}  // namespace colonnade::detail
