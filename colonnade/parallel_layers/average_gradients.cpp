// colonnade/parallel_layers/average_gradients.cpp
#include "colonnade/parallel_layers/average_gradients.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/exchange.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;

constexpr const char* kSubject = "average_gradients: ";

// A bucket's size balances the latency of a collective against the memory of
// the copy; a contiguous gradient that is worth a collective of its own is
// reduced where it is.
constexpr int64_t kBucketBytes = int64_t{25} << 20;
constexpr int64_t kAloneBytes = int64_t{1} << 20;

/// How many NoSyncScopes a rank has open.
struct NoSync {
  int depth = 0;
};

int& no_sync_depth() {
  return RankContext::current()->slot<NoSync>().depth;
}

struct NamedGradient {
  std::string name;
  Tensor gradient;  // undefined where there is none
};

/// Of distinct parameters, in the order of parameters().
std::vector<NamedGradient> gradients_of(const torch::nn::Module& model) {
  std::vector<NamedGradient> result;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& item : model.named_parameters()) {
    if (seen.insert(item.value().unsafeGetTensorImpl()).second) {
      result.push_back({item.key(), item.value().grad()});
    }
  }
  return result;
}

constexpr char kNone = '-';
constexpr char kSparse = 'S';

/// One character a gradient: none, sparse, or its dtype.
std::string state_of(const std::vector<NamedGradient>& gradients) {
  std::string state;
  for (const NamedGradient& item : gradients) {
    if (!item.gradient.defined()) {
      state += kNone;
    } else if (item.gradient.layout() != at::kStrided) {
      state += kSparse;
    } else {
      state += static_cast<char>('a' +
                                 static_cast<int>(item.gradient.scalar_type()));
    }
  }
  return state;
}

/// "weight (ranks 0 2)" for the ranks whose state is not `kNone`.
std::string with_ranks(const std::string& name, const Group& group,
                       const std::vector<std::string>& states, size_t i) {
  std::string result = name + " (ranks";
  for (size_t rank = 0; rank < states.size(); ++rank) {
    if (states[rank][i] != kNone) {
      result += ' ' + std::to_string(group.ranks()[rank]);
    }
  }
  return result + ")";
}

void append_to_list(std::string& list, const std::string& item) {
  list += (list.empty() ? "" : ", ") + item;
}

/// Throws, on every rank alike, unless all ranks have gradients for the same
/// parameters, dense and of one dtype.
void check_gradients(const std::vector<NamedGradient>& gradients,
                     Group& group) {
  const std::vector<std::string> states =
      all_gather_bytes(group, state_of(gradients));
  std::string partial;
  std::string sparse;
  std::string mixed;
  for (size_t rank = 0; rank < states.size(); ++rank) {
    check_arg(states[rank].size() == states[0].size(), kSubject,
              "the model has ", states[0].size(), " parameters on rank ",
              group.ranks()[0], " and ", states[rank].size(), " on rank ",
              group.ranks()[rank]);
  }
  for (size_t i = 0; i < gradients.size(); ++i) {
    bool some_none = false;
    bool some_sparse = false;
    bool some_other = false;
    for (const std::string& state : states) {
      some_none |= state[i] == kNone;
      some_sparse |= state[i] == kSparse;
      some_other |= state[i] != states[0][i];
    }
    const std::string& name = gradients[i].name;
    if (some_sparse) {
      append_to_list(sparse, name);
    } else if (some_none && some_other) {
      append_to_list(partial, with_ranks(name, group, states, i));
    } else if (some_other) {
      append_to_list(mixed, name);
    }
  }
  check_arg(sparse.empty(), kSubject, "sparse gradients of ", sparse,
            "; make them dense, as torch::nn::Embedding's are without "
            "sparse(true)");
  check_arg(partial.empty(), kSubject,
            "gradients on some ranks only: ", partial,
            "; let every rank's loss depend on the same parameters");
  check_arg(mixed.empty(), kSubject,
            "gradients of another dtype on each rank: ", mixed);
}

/// Gradients of one dtype on one device that travel together.
struct Bucket {
  std::vector<Tensor> gradients;
  int64_t elements = 0;
};

bool goes_alone(const Tensor& gradient) {
  return gradient.is_contiguous() &&
         static_cast<int64_t>(gradient.nbytes()) >= kAloneBytes;
}

std::vector<Bucket> make_buckets(const std::vector<NamedGradient>& gradients) {
  std::vector<Bucket> full;
  // A map of few entries in a fixed order: every rank makes the same buckets.
  std::map<std::pair<at::ScalarType, at::DeviceType>, Bucket> open;
  for (const NamedGradient& item : gradients) {
    const Tensor& gradient = item.gradient;
    if (!gradient.defined() || gradient.numel() == 0) {
      continue;
    }
    if (goes_alone(gradient)) {
      full.push_back({{gradient}, gradient.numel()});
      continue;
    }
    Bucket& bucket = open[{gradient.scalar_type(), gradient.device().type()}];
    const int64_t bytes =
        (bucket.elements + gradient.numel()) * gradient.element_size();
    if (!bucket.gradients.empty() && bytes > kBucketBytes) {
      full.push_back(std::exchange(bucket, {}));
    }
    bucket.gradients.push_back(gradient);
    bucket.elements += gradient.numel();
  }
  for (auto& [kind, bucket] : open) {
    if (!bucket.gradients.empty()) {
      full.push_back(std::move(bucket));
    }
  }
  return full;
}

// Both divide first, so that a sum of fp16 does not overflow.

void average_in_place(Tensor gradient, Group& group) {
  gradient.div_(group.size());
  group.all_reduce(gradient);
}

void average_packed(const Bucket& bucket, Group& group) {
  Tensor flat = at::empty({bucket.elements}, bucket.gradients[0].options());
  std::vector<Tensor> parts;
  int64_t offset = 0;
  for (const Tensor& gradient : bucket.gradients) {
    parts.push_back(
        flat.narrow(0, offset, gradient.numel()).view(gradient.sizes()));
    offset += gradient.numel();
    at::div_out(parts.back(), gradient,
                at::scalar_tensor(group.size(), at::kDouble));
  }
  group.all_reduce(flat);
  for (size_t i = 0; i < parts.size(); ++i) {
    bucket.gradients[i].copy_(parts[i]);
  }
}

}  // namespace

void average_gradients(torch::nn::Module& model, const GroupPtr& group) {
  if (no_sync_depth() > 0) {
    return;
  }
  const GroupPtr dp =
      group != nullptr ? group : parallel_state::get_data_parallel_group();
  if (dp->size() == 1) {
    return;
  }
  const CallSiteScope site(CallSite("average_gradients"));
  const at::NoGradGuard no_grad;
  const std::vector<NamedGradient> gradients = gradients_of(model);
  check_gradients(gradients, *dp);
  for (const Bucket& bucket : make_buckets(gradients)) {
    if (bucket.gradients.size() == 1 && bucket.gradients[0].is_contiguous()) {
      average_in_place(bucket.gradients[0], *dp);
    } else {
      average_packed(bucket, *dp);
    }
  }
}

NoSyncScope::NoSyncScope() {
  ++no_sync_depth();
}

NoSyncScope::~NoSyncScope() {
  --no_sync_depth();
}

}  // namespace colonnade::parallel_layers
