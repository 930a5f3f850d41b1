// colonnade/checkpoint/detail/loader.cpp
#include "colonnade/checkpoint/detail/loader.h"

#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/core/error.h"

#include <ATen/ops/equal.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace colonnade::detail {
namespace {

const StoredTensor* find_stored(const TensorStore& store,
                                const std::string& name) {
  const auto found = store.names.find(name);
  return found == store.names.end() ? nullptr : found->second;
}

/// Tensors of the model by identity: tied ones together.
std::map<const void*, std::vector<const ModelTensor*>> find_ties(
    const std::vector<ModelTensor>& model) {
  std::map<const void*, std::vector<const ModelTensor*>> ties;
  for (const ModelTensor& tensor : model) {
    ties[tensor.tensor.unsafeGetTensorImpl()].push_back(&tensor);
  }
  return ties;
}

std::string show_whole(const ModelTensor& tensor) {
  return show_tensor(tensor.tensor.scalar_type(), tensor.whole_shape());
}

std::string show_stored(const StoredTensor& source) {
  return source.belongs_to_rank()
             ? concat(dtype_name(source.dtype), " of each rank's own")
             : show_tensor(source.dtype, source.shape);
}

bool fits(const ModelTensor& tensor, const StoredTensor& source, int rank) {
  if (!can_fill(tensor.tensor.scalar_type(), source.dtype)) {
    return false;
  }
  if (source.belongs_to_rank()) {
    return !tensor.attributes.has_value() &&
           tensor.tensor.sizes() ==
               source.rank_shapes[static_cast<size_t>(rank)];
  }
  return tensor.whole_shape() == source.shape;
}

}  // namespace

std::vector<Filling> match_model(const CheckpointRanks& ranks,
                                 const std::vector<ModelTensor>& model,
                                 const TensorStore& store,
                                 const std::string& prefix,
                                 const std::string& subject,
                                 std::vector<Wanted>& wanted) {
  std::vector<Filling> fillings;
  KeyReport report;
  const auto ties = find_ties(model);
  std::set<std::string> known;
  std::set<std::pair<const void*, const StoredTensor*>> filled;
  for (const ModelTensor& tensor : model) {
    const auto* identity = tensor.tensor.unsafeGetTensorImpl();
    known.insert(prefix + tensor.name);
    const StoredTensor* source = find_stored(store, prefix + tensor.name);
    if (source == nullptr) {
      if (std::ranges::none_of(ties.at(identity), [&](const auto* other) {
            return find_stored(store, prefix + other->name) != nullptr;
          })) {
        report.missing(tensor.name, show_whole(tensor));
      }
      continue;
    }
    check_degree(*source, ranks.size);
    if (!fits(tensor, *source, ranks.rank)) {
      report.mismatched(tensor.name, show_whole(tensor), show_stored(*source));
      continue;
    }
    check_arg(!tensor.tensor.is_meta(), "load: ", tensor.name,
              ": is on the meta device; call move_model_to_device first");
    if (filled.insert({identity, source}).second) {
      fillings.push_back({tensor.tensor, wanted.size()});
      wanted.push_back({source, tensor.attributes, {}});
    }
  }
  for (auto at = store.names.lower_bound(prefix);
       at != store.names.end() && at->first.starts_with(prefix); ++at) {
    if (!known.contains(at->first)) {
      report.unexpected(at->first.substr(prefix.size()),
                        show_stored(*at->second));
    }
  }
  report.throw_if_any(subject);
  return fillings;
}

void check_ties(const std::vector<Filling>& fillings,
                const std::vector<Wanted>& wanted) {
  std::map<const void*, const Wanted*> first;
  for (const Filling& filling : fillings) {
    const Wanted& source = wanted[filling.wanted];
    const auto [at, is_first] =
        first.emplace(filling.tensor.unsafeGetTensorImpl(), &source);
    check_arg(is_first || at::equal(at->second->value, source.value),
              "load: ", at->second->source->name, " and ", source.source->name,
              " are one tensor in the model, but have different values in the "
              "checkpoint");
  }
}

void fill(const std::vector<Filling>& fillings,
          const std::vector<Wanted>& wanted) {
  const at::NoGradGuard no_grad;
  for (const Filling& filling : fillings) {
    at::Tensor tensor = filling.tensor;
    tensor.copy_(wanted[filling.wanted].value);
  }
}

}  // namespace colonnade::detail
