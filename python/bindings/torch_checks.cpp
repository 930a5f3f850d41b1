// What is checked of a call of torch.distributed before it is made.
#include "torch_checks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace colonnade::python {

using at::Tensor;

void TorchChecks::check_one(const Tensors& tensors, const char* method) const {
  check_call(tensors.size() == 1, method, tensors.size(), " tensors; give one");
}

void TorchChecks::check_tensors(const Tensors& tensors, const char* method,
                                const char* name) const {
  for (const Tensor& x : tensors) {
    check_call(x.defined(), method, name, " is undefined; give a tensor");
    check_call(x.layout() == at::kStrided, method, name, " is ", x.layout(),
               "; only dense tensors are exchanged, so call to_dense()");
    check_call(x.device().is_cpu(), method, name, " is on ", x.device(),
               "; only tensors on the CPU are exchanged, so name a backend "
               "for ",
               x.device().type(),
               " in init_process_group, such as \"cpu:"
               "colonnade,cuda:nccl\"");
  }
}

void TorchChecks::check_count(const Tensors& tensors, const char* method,
                              const char* name) const {
  check_call(tensors.size() == static_cast<size_t>(group_size_), method,
             tensors.size(), " ", name, " tensors for ", group_size_,
             " ranks; give one a rank");
  check_tensors(tensors, method, name);
}

const Tensors& TorchChecks::list_of(const std::vector<Tensors>& lists,
                                    const char* method,
                                    const char* name) const {
  check_call(lists.size() == 1, method, lists.size(), " lists; give one ",
             name);
  check_count(lists[0], method, name);
  return lists[0];
}

void TorchChecks::check_like(const Tensors& tensors, const Tensor& x,
                             const char* method, const char* name) const {
  for (const Tensor& other : tensors) {
    check_call(other.scalar_type() == x.scalar_type(), method, "an ", name,
               " is ", other.scalar_type(), ", and the tensor ",
               x.scalar_type(), "; they must have one dtype");
  }
}

void TorchChecks::check_size(const Tensor& part, const Tensor& x,
                             const char* method, const char* name) const {
  check_call(part.numel() == x.numel(), method, name, " of shape ",
             part.sizes(), " has ", part.numel(),
             " elements, and the tensor of shape ", x.sizes(), " ", x.numel());
}

int TorchChecks::rank_of(int64_t root, const char* method) const {
  check_call(root >= 0 && root < group_size_, method, "the root is ", root,
             ", outside of the group's ranks [0, ", group_size_, ")");
  return static_cast<int>(root);
}

void TorchChecks::check_peer(int peer, const char* method) const {
  check_call(peer >= 0 && peer < group_size_ && peer != own_rank_, method,
             "the other rank is ", peer, "; name another one of the ",
             group_size_);
}

const Tensor& TorchChecks::check_message(const Tensors& tensors,
                                         const char* method) const {
  check_one(tensors, method);
  check_tensors(tensors, method, "the tensor");
  return tensors[0];
}

void TorchChecks::check_writable(const Tensor& x) const {
  check_call(x.is_contiguous(), "recv", "the tensor of shape ", x.sizes(),
             " is not contiguous (strides ", x.strides(),
             "); receive into a contiguous one, and copy");
}

Tensors TorchChecks::parts_of(const Tensor& whole,
                              const std::vector<int64_t>& splits,
                              const char* name) const {
  const int64_t rows = whole.dim() == 0 ? 1 : whole.size(0);
  std::vector<int64_t> sizes = splits;
  if (sizes.empty()) {
    check_call(rows % group_size_ == 0, "all_to_all", "the ", rows,
               " rows of the ", name, " do not divide over ", group_size_,
               " ranks; give splits");
    sizes.assign(static_cast<size_t>(group_size_), rows / group_size_);
  }
  check_call(sizes.size() == static_cast<size_t>(group_size_), "all_to_all",
             sizes.size(), " ", name, " splits for ", group_size_,
             " ranks; give one a rank");
  const bool positive =
      std::all_of(sizes.begin(), sizes.end(), [](int64_t n) { return n >= 0; });
  const int64_t sum = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  check_call(positive && sum == rows, "all_to_all", "the ", name, " splits ",
             at::IntArrayRef(sizes), " do not add up to its ", rows, " rows");
  return whole.detach().split_with_sizes(sizes);
}

void TorchChecks::check_pairs(const Tensors& wholes, const Tensors& parts,
                              const char* method, const char* whole_name,
                              const char* part_name) const {
  check_call(wholes.size() == parts.size(), method, wholes.size(), " ",
             whole_name, " tensors and ", parts.size(), " ", part_name,
             " tensors; give as many");
  check_tensors(wholes, method, whole_name);
  check_tensors(parts, method, part_name);
  for (size_t i = 0; i < wholes.size(); ++i) {
    check_like({wholes[i]}, parts[i], method, whole_name);
    check_call(wholes[i].numel() == parts[i].numel() * group_size_, method,
               "the ", whole_name, " of shape ", wholes[i].sizes(), " has ",
               wholes[i].numel(), " elements, and the ", part_name,
               " of shape ", parts[i].sizes(), " on ", group_size_,
               " ranks makes ", parts[i].numel() * group_size_);
  }
}

}  // namespace colonnade::python
