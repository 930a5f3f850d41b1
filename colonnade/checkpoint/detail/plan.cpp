// colonnade/checkpoint/detail/plan.cpp
#include "colonnade/checkpoint/detail/plan.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace colonnade::detail {
namespace {

using nlohmann::json;

void check_can_be_saved(const std::string& name, const StateTensor& value) {
  const at::Tensor& tensor = value.tensor;
  check_arg(tensor.defined(), "save: ", name,
            ": is an undefined tensor; leave the key out, or save nothing");
  check_arg(name != "__metadata__", "save: ", name,
            ": is a name that safetensors keeps for itself; rename the key");
  check_arg(!tensor.is_meta(), "save: ", name,
            ": is on the meta device and has no values");
  check_arg(tensor.layout() == at::kStrided && !tensor.is_nested(),
            "save: ", name, ": has layout ", tensor.layout(),
            ", which cannot be saved; call to_dense()");
  check_arg(!dtype_name(tensor.scalar_type()).empty(), "save: ", name,
            ": has dtype ", tensor.scalar_type(),
            ", which safetensors cannot hold",
            tensor.is_complex()     ? "; save view_as_real(tensor)"
            : tensor.is_quantized() ? "; save int_repr() and the scales"
                                    : "");
  if (value.attributes.has_value()) {
    value.attributes->spec.validate(tensor.sizes(), concat("save: ", name));
  }
}

/// What two names of one tensor have in common.
auto identity(const StateTensor& value) {
  const at::Tensor& tensor = value.tensor;
  return std::tuple(tensor.const_data_ptr(), tensor.sizes().vec(),
                    tensor.strides().vec(), tensor.scalar_type(),
                    value.attributes.has_value()
                        ? to_string(value.attributes->spec)
                        : std::string());
}

json to_json(const LocalTensor& tensor) {
  json object = {{"name", tensor.name},
                 {"same_as", tensor.same_as},
                 {"dtype", dtype_name(tensor.value.tensor.scalar_type())},
                 {"shape", tensor.value.tensor.sizes().vec()}};
  if (tensor.value.attributes.has_value()) {
    const ShardSpec& spec = tensor.value.attributes->spec;
    object["dim"] = spec.dim;
    object["whole_size"] = spec.whole_size;
    object["local_size"] = spec.local_size;
    object["group"] = tensor.value.attributes->group;
    object["ranges"] = json::array();
    for (const IndexRange& range : spec.ranges) {
      object["ranges"].push_back({range.begin, range.end});
    }
  }
  return object;
}

struct Description {
  std::string name;
  std::string same_as;
  std::string dtype;
  std::vector<int64_t> shape;
  std::optional<TensorParallelAttributes> attributes;
};

Description description_from(const json& object) {
  Description result{object["name"], object["same_as"], object["dtype"],
                     object["shape"], std::nullopt};
  if (object.contains("dim")) {
    ShardSpec spec{
        object["dim"], object["whole_size"], {}, object["local_size"]};
    for (const json& range : object["ranges"]) {
      spec.ranges.push_back({range[0], range[1]});
    }
    result.attributes = {std::move(spec), object["group"]};
  }
  return result;
}

std::string show(const Description& tensor, bool with_group) {
  std::string text = concat(tensor.dtype, " ", at::IntArrayRef(tensor.shape));
  if (tensor.attributes.has_value()) {
    text += concat(" (", to_string(tensor.attributes->spec), ")");
    if (with_group) {
      text += concat(" over \"", tensor.attributes->group, "\"");
    }
  }
  return text;
}

/// One tensor as all ranks describe it; a sentence about what does not fit, or
/// nothing.
std::string plan_tensor(std::span<const Description* const> ranks,
                        PlannedTensor& planned) {
  const Description& first = *ranks.front();
  planned.entry.name = first.name;
  planned.entry.dtype = dtype_from_name(first.dtype, first.name);
  const bool split = first.attributes.has_value();
  std::vector<std::vector<IndexRange>> ranges;
  const auto whole_shape = [](const Description& tensor) {
    return tensor.attributes->spec.whole_shape(tensor.shape);
  };
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const Description& tensor = *ranks[rank];
    const bool fits =
        tensor.dtype == first.dtype && tensor.attributes.has_value() == split &&
        (!split || (tensor.attributes->spec.dim == first.attributes->spec.dim &&
                    tensor.attributes->group == first.attributes->group &&
                    whole_shape(tensor) == whole_shape(first)));
    if (!fits) {
      const bool other_group =
          split && tensor.attributes.has_value() &&
          tensor.attributes->group != first.attributes->group;
      return concat(first.name, ": is ", show(first, other_group),
                    " on rank 0 and ", show(tensor, other_group), " on rank ",
                    rank);
    }
    planned.local_shapes.push_back(tensor.shape);
    if (split) {
      planned.entry.shards.push_back(tensor.attributes->spec);
      ranges.push_back(tensor.attributes->spec.ranges);
    }
  }
  if (!split) {
    planned.entry.shape = first.shape;
    return "";
  }
  planned.entry.layout = Layout::kSplit;
  planned.entry.shape = whole_shape(first);
  planned.entry.group = first.attributes->group;
  planned.holdings = find_holders(first.attributes->spec.whole_size, ranges);
  for (const Holding& holding : planned.holdings) {
    if (holding.holders.empty()) {
      return concat(first.name,
                    ": no rank of the tensor-parallel group holds [",
                    holding.range.begin, ", ", holding.range.end, ") of dim ",
                    first.attributes->spec.dim, ", which has size ",
                    first.attributes->spec.whole_size);
    }
  }
  return "";
}

/// Digests of one tensor, as they came from every rank.
using DigestReader = std::vector<std::span<const uint64_t>>;

uint64_t take(std::span<const uint64_t>& digests) {
  const uint64_t digest = digests.front();
  digests = digests.subspan(1);
  return digest;
}

void assign_split(PlannedTensor& planned, DigestReader& digests) {
  const int ranks = static_cast<int>(digests.size());
  std::vector<uint64_t> of_rank(digests.size(), 0);
  for (const Holding& holding : planned.holdings) {
    const int owner = holding.holders.front();
    const uint64_t digest = take(digests[static_cast<size_t>(owner)]);
    of_rank[static_cast<size_t>(owner)] += digest;
    planned.entry.digest += digest;
    for (const int holder : holding.holders) {
      check_arg(holder == owner ||
                    take(digests[static_cast<size_t>(holder)]) == digest,
                "save: ", planned.entry.name, ": ranks ", owner, " and ",
                holder, " both hold [", holding.range.begin, ", ",
                holding.range.end, ") of dim ", planned.entry.shards[0].dim,
                ", with different values; their gradients were not summed");
    }
  }
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<IndexRange> ranges = first_held(planned.holdings, rank);
    if (!ranges.empty()) {
      planned.entry.parts.push_back(
          {rank, std::move(ranges), {}, of_rank[static_cast<size_t>(rank)]});
    }
  }
}

/// bytes_of  what each rank writes so far: the least burdened writes a
///           replicated tensor
void assign_plain(PlannedTensor& planned, DigestReader& digests,
                  std::vector<int64_t>& bytes_of) {
  ManifestTensor& entry = planned.entry;
  bool equal = true;
  std::vector<uint64_t> of_rank;
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    of_rank.push_back(take(digests[rank]));
    equal = equal && of_rank[rank] == of_rank[0] &&
            planned.local_shapes[rank] == planned.local_shapes[0];
  }
  if (equal) {
    entry.layout = Layout::kReplicated;
    entry.digest = of_rank[0];
    const auto least = std::ranges::min_element(bytes_of);
    *least += c10::multiply_integers(entry.shape) *
              static_cast<int64_t>(c10::elementSize(entry.dtype));
    entry.parts = {
        {static_cast<int>(least - bytes_of.begin()), {}, {}, of_rank[0]}};
    return;
  }
  entry.layout = Layout::kPerRank;
  entry.shape.clear();
  entry.digest = std::accumulate(of_rank.begin(), of_rank.end(), uint64_t{0});
  for (size_t rank = 0; rank < digests.size(); ++rank) {
    entry.parts.push_back({static_cast<int>(rank),
                           {},
                           planned.local_shapes[rank],
                           of_rank[rank]});
  }
}

}  // namespace

std::vector<LocalTensor> find_tensors(std::span<const Leaf> leaves) {
  std::vector<LocalTensor> tensors;
  std::map<decltype(identity(StateTensor())), std::string> seen;
  for (const Leaf& leaf : leaves) {
    if (!leaf.value->is<StateTensor>()) {
      continue;
    }
    const StateTensor& value = leaf.value->to_state_tensor();
    check_can_be_saved(leaf.name, value);
    std::string same_as = leaf.name;
    if (value.tensor.numel() > 0) {
      same_as = seen.emplace(identity(value), leaf.name).first->second;
    }
    tensors.push_back({leaf.name, std::move(same_as), value});
  }
  return tensors;
}

std::string describe(std::span<const LocalTensor> tensors) {
  json list = json::array();
  for (const LocalTensor& tensor : tensors) {
    list.push_back(to_json(tensor));
  }
  return list.dump();
}

Piece PlannedTensor::local_piece(int rank) const {
  const auto index = static_cast<size_t>(rank);
  if (!is_split()) {
    return whole_piece(c10::multiply_integers(local_shapes[index]));
  }
  const ShardSpec& spec = entry.shards[index];
  return make_piece(entry.shape, spec.dim, spec.ranges, spec.local_size);
}

std::vector<PlannedTensor> make_plan(
    std::span<const std::string> descriptions) {
  std::vector<std::vector<Description>> ranks;
  std::vector<std::unordered_map<std::string, const Description*>> by_name;
  for (const std::string& text : descriptions) {
    std::vector<Description> tensors;
    for (const json& object : json::parse(text)) {
      tensors.push_back(description_from(object));
    }
    ranks.push_back(std::move(tensors));
    auto& names = by_name.emplace_back();
    for (const Description& tensor : ranks.back()) {
      names[tensor.name] = &tensor;
    }
  }

  std::vector<PlannedTensor> plan;
  std::unordered_map<std::string, size_t> place;
  std::string problems;
  for (const Description& tensor : ranks.front()) {
    // All ranks have the names: they compared them before.
    std::vector<const Description*> views;
    bool tied = tensor.same_as != tensor.name;
    for (const auto& names : by_name) {
      views.push_back(names.at(tensor.name));
      tied = tied && views.back()->same_as == tensor.same_as;
    }
    if (tied) {
      plan[place.at(tensor.same_as)].entry.aliases.push_back(tensor.name);
      place[tensor.name] = place.at(tensor.same_as);
      continue;
    }
    place[tensor.name] = plan.size();
    const std::string problem = plan_tensor(views, plan.emplace_back());
    if (!problem.empty()) {
      problems += "\n  " + problem;
    }
  }
  check_arg(problems.empty(),
            "save: the ranks' tensors do not fit together:", problems);
  return plan;
}

std::vector<uint64_t> digest_local(std::span<const PlannedTensor> plan,
                                   std::span<const LocalTensor> tensors,
                                   int rank) {
  std::vector<uint64_t> digests;
  for (const PlannedTensor& planned : plan) {
    const at::Tensor tensor =
        host_tensor(find_tensor(tensors, planned.entry.name));
    const Piece piece = planned.local_piece(rank);
    const auto add = [&](const Piece& part) {
      digests.push_back(tensor_digest(planned.entry.name, part,
                                      tensor.const_data_ptr(),
                                      tensor.element_size()));
    };
    if (!planned.is_split()) {
      add(piece);
      continue;
    }
    for (const Holding& holding : planned.holdings) {
      if (std::ranges::find(holding.holders, rank) != holding.holders.end()) {
        add(restrict_to(piece, {&holding.range, 1}));
      }
    }
  }
  return digests;
}

void assign_parts(std::vector<PlannedTensor>& plan,
                  std::span<const std::vector<uint64_t>> digests) {
  DigestReader reader(digests.begin(), digests.end());
  std::vector<int64_t> bytes_of(digests.size(), 0);
  for (PlannedTensor& planned : plan) {
    if (planned.is_split()) {
      assign_split(planned, reader);
    } else {
      assign_plain(planned, reader, bytes_of);
    }
  }
}

const at::Tensor& find_tensor(std::span<const LocalTensor> tensors,
                              const std::string& name) {
  return std::ranges::find(tensors, name, &LocalTensor::name)->value.tensor;
}

at::Tensor host_tensor(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).resolve_neg().contiguous();
}

}  // namespace colonnade::detail
