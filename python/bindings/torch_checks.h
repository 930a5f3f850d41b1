// What is checked of a call of torch.distributed before it is made.
#pragma once

#include "colonnade/core/error.h"
#include "torch_calls.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace colonnade::python {

/// The checks of one rank's calls in a group. Each throws InvalidArgument, with
/// the call's name.
class TorchChecks {
 protected:
  TorchChecks(int rank, int size) : own_rank_(rank), group_size_(size) {}

  template <typename... Parts>
  void check_call(bool ok, const char* method, const Parts&... parts) const {
    check_arg(ok, method, " of colonnade (rank ", own_rank_, "): ", parts...);
  }
  void check_one(const Tensors& tensors, const char* method) const;
  void check_tensors(const Tensors& tensors, const char* method,
                     const char* name) const;
  void check_count(const Tensors& tensors, const char* method,
                   const char* name) const;
  /// The one list for this process.
  const Tensors& list_of(const std::vector<Tensors>& lists, const char* method,
                         const char* name) const;
  void check_like(const Tensors& tensors, const at::Tensor& x,
                  const char* method, const char* name) const;
  void check_size(const at::Tensor& part, const at::Tensor& x,
                  const char* method, const char* name) const;
  int rank_of(int64_t root, const char* method) const;
  void check_peer(int peer, const char* method) const;
  const at::Tensor& check_message(const Tensors& tensors,
                                  const char* method) const;
  void check_writable(const at::Tensor& x) const;
  /// `whole` cut along its first dim; evenly where there are no splits.
  Tensors parts_of(const at::Tensor& whole, const std::vector<int64_t>& splits,
                   const char* name) const;
  void check_pairs(const Tensors& wholes, const Tensors& parts,
                   const char* method, const char* whole_name,
                   const char* part_name) const;

 private:
  int own_rank_;
  int group_size_;
};

}  // namespace colonnade::python
