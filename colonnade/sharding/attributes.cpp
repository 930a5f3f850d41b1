// colonnade/sharding/attributes.cpp
#include "colonnade/sharding/attributes.h"

#include "colonnade/core/error.h"

#include <c10/core/TensorImpl.h>
#include <c10/core/UndefinedTensorImpl.h>
#include <c10/util/intrusive_ptr.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

namespace colonnade {
namespace {

/// The attributes of all ranks' tensors, by identity.
///
/// Each entry holds a weak reference, which lets the tensor's memory go but
/// keeps its TensorImpl's address from being used again: an address that is
/// found is the tensor that was put in, never another in its place.
class Registry {
 public:
  /// Never destroyed: tensors may outlive static objects.
  static Registry& instance() {
    static auto* registry = new Registry;
    return *registry;
  }

  void set(const at::Tensor& tensor, TensorParallelAttributes attributes) {
    std::unique_lock lock(mutex_);
    if (entries_.size() >= sweep_at_) {
      sweep();
    }
    entries_.insert_or_assign(
        tensor.unsafeGetTensorImpl(),
        Entry{WeakTensor(tensor.getIntrusivePtr()), std::move(attributes)});
  }

  void erase(const at::Tensor& tensor) {
    std::unique_lock lock(mutex_);
    entries_.erase(tensor.unsafeGetTensorImpl());
  }

  std::optional<TensorParallelAttributes> find(const at::Tensor& tensor) const {
    std::shared_lock lock(mutex_);
    const auto found = entries_.find(tensor.unsafeGetTensorImpl());
    if (found == entries_.end()) {
      return std::nullopt;
    }
    return found->second.attributes;
  }

 private:
  using WeakTensor =
      c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

  struct Entry {
    WeakTensor tensor;
    TensorParallelAttributes attributes;
  };

  /// Drops the entries of tensors that are gone. Next when as many again have
  /// been added as are left, so that a `set` costs O(1) on average.
  void sweep() {
    std::erase_if(entries_, [](const auto& item) {
      return item.second.tensor.expired();
    });
    sweep_at_ = std::max(kFirstSweep, 2 * entries_.size());
  }

  static constexpr size_t kFirstSweep = 64;

  mutable std::shared_mutex mutex_;
  std::unordered_map<const c10::TensorImpl*, Entry> entries_;
  size_t sweep_at_ = kFirstSweep;
};

}  // namespace

void set_tensor_parallel_attributes(const at::Tensor& tensor,
                                    TensorParallelAttributes attributes) {
  check_arg(tensor.defined(), "set_tensor_parallel_attributes: the tensor is ",
            "undefined; set attributes after it is made");
  check_arg(!attributes.group.empty(), "set_tensor_parallel_attributes: the ",
            "group's name is empty; name a group such as \"tp\"");
  attributes.spec.validate(tensor.sizes(), "set_tensor_parallel_attributes");
  Registry::instance().set(tensor, std::move(attributes));
}

std::optional<TensorParallelAttributes> get_tensor_parallel_attributes(
    const at::Tensor& tensor) {
  return tensor.defined() ? Registry::instance().find(tensor) : std::nullopt;
}

void copy_tensor_parallel_attributes(const at::Tensor& to,
                                     const at::Tensor& from) {
  if (auto attributes = get_tensor_parallel_attributes(from)) {
    set_tensor_parallel_attributes(to, *std::move(attributes));
  } else {
    Registry::instance().erase(to);
  }
}

}  // namespace colonnade
