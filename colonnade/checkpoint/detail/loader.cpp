// colonnade/checkpoint/detail/loader.cpp
#include "colonnade/checkpoint/detail/loader.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/core/error.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

namespace colonnade::detail {
namespace {

using nlohmann::json;

bool belongs_to_rank(const StoredTensor& source) {
  return source.layout == Layout::kPerRank;
}

/// What the other ranks must know of what this one wants.
std::string describe_wanted(const std::vector<Wanted>& wanted) {
  json list = json::array();
  for (const Wanted& tensor : wanted) {
    json entry = {{"name", tensor.source->name}, {"dim", -1}};
    if (tensor.attributes.has_value()) {
      entry["dim"] = tensor.attributes->spec.dim;
      entry["ranges"] = json::array();
      for (const IndexRange& range : tensor.attributes->spec.ranges) {
        entry["ranges"].push_back({range.begin, range.end});
      }
    }
    list.push_back(std::move(entry));
  }
  return list.dump();
}

/// Of each wanted tensor, which part this rank answers for in the sum of
/// digests: the ranges of which it is the first holder.
std::vector<std::vector<IndexRange>> find_answers(
    const std::vector<Wanted>& wanted, const std::vector<std::string>& texts,
    int rank) {
  std::vector<json> ranks;
  for (const std::string& text : texts) {
    ranks.push_back(json::parse(text));
    check_arg(ranks.back().size() == wanted.size(), "load: the model has ",
              ranks[0].size(), " tensors to fill on rank 0 and ",
              ranks.back().size(), " on rank ", ranks.size() - 1);
  }
  std::vector<std::vector<IndexRange>> answers(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    std::vector<std::vector<IndexRange>> ranges;
    for (size_t other = 0; other < ranks.size(); ++other) {
      const json& entry = ranks[other][i];
      check_arg(entry["name"] == ranks[0][i]["name"] &&
                    entry["dim"] == ranks[0][i]["dim"],
                "load: ", wanted[i].source->name,
                ": is split differently in the models of rank 0 and rank ",
                other);
      auto& list = ranges.emplace_back();
      for (const json& range : entry.value("ranges", json::array())) {
        list.push_back({range[0], range[1]});
      }
    }
    if (!wanted[i].attributes.has_value()) {
      continue;
    }
    const ShardSpec& spec = wanted[i].attributes->spec;
    const auto holdings = find_holders(spec.whole_size, ranges);
    for (const Holding& holding : holdings) {
      check_arg(!holding.holders.empty(), "load: ", wanted[i].source->name,
                ": no rank of the tensor-parallel group has [",
                holding.range.begin, ", ", holding.range.end, ") of dim ",
                spec.dim, " in its model");
    }
    answers[i] = first_held(holdings, rank);
  }
  return answers;
}

Piece piece_of(const Wanted& wanted, int rank) {
  const StoredTensor& source = *wanted.source;
  if (belongs_to_rank(source)) {
    return source.parts[static_cast<size_t>(rank)].piece;
  }
  if (!wanted.attributes.has_value()) {
    return whole_piece(c10::multiply_integers(source.shape));
  }
  const ShardSpec& spec = wanted.attributes->spec;
  return make_piece(source.shape, spec.dim, spec.ranges, spec.local_size);
}

at::Tensor make_value(const Wanted& wanted, int rank) {
  const StoredTensor& source = *wanted.source;
  const auto options = at::TensorOptions().dtype(source.dtype);
  if (belongs_to_rank(source)) {
    return at::empty(source.rank_shapes[static_cast<size_t>(rank)], options);
  }
  if (!wanted.attributes.has_value()) {
    return at::empty(source.shape, options);
  }
  const ShardSpec& spec = wanted.attributes->spec;
  const auto shape = spec.local_shape(source.shape);
  return spec.padding() == 0 ? at::empty(shape, options)
                             : at::zeros(shape, options);
}

void check_all_parts(const StoredTensor& source) {
  for (const StoredPart& part : source.parts) {
    check_part(source, part);
  }
}

/// Reads one tensor; returns the digest of the part that this rank answers for
/// where the ranks' digests are to be added up. Anything else it verifies.
uint64_t read_one(Wanted& wanted, const std::vector<IndexRange>& answers,
                  int rank) {
  const StoredTensor& source = *wanted.source;
  const Piece piece = piece_of(wanted, rank);
  wanted.value = make_value(wanted, rank);
  const int64_t element_size = wanted.value.element_size();
  void* out = wanted.value.mutable_data_ptr();
  const auto digest = [&](const Piece& part) {
    return tensor_digest(source.name, part, out, element_size);
  };
  if (belongs_to_rank(source)) {
    const StoredPart& part = source.parts[static_cast<size_t>(rank)];
    read_part(part, piece, out, element_size);
    if (digest(piece) != part.digest) {
      check_part(source, part);
    }
    return 0;
  }
  for (const StoredPart& part : source.parts) {
    read_part(part, piece, out, element_size);
  }
  if (!source.digest.has_value()) {
    return 0;
  }
  if (wanted.attributes.has_value()) {
    return digest(restrict_to(piece, answers));
  }
  if (digest(piece) != *source.digest) {
    check_all_parts(source);
    throw CheckpointError(concat("load: ", source.name,
                                 ": does not match its digest though its parts "
                                 "do; the files changed while they were read"));
  }
  return 0;
}

/// Throws where the ranks' digests do not add up to the saved one.
void check_sums(const std::vector<Wanted>& wanted,
                const std::vector<std::string>& texts) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const StoredTensor& source = *wanted[i].source;
    if (!wanted[i].attributes.has_value() || !source.digest.has_value()) {
      continue;
    }
    uint64_t sum = 0;
    for (const std::string& text : texts) {
      uint64_t digest = 0;
      std::memcpy(&digest, text.data() + i * sizeof(digest), sizeof(digest));
      sum += digest;
    }
    if (sum != *source.digest) {
      check_all_parts(source);
      throw CheckpointError(
          concat("load: ", source.name,
                 ": its shards do not add up to the digest of "
                 "the whole; the files changed while they were read"));
    }
  }
}

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
  return belongs_to_rank(source)
             ? concat(dtype_name(source.dtype), " of each rank's own")
             : show_tensor(source.dtype, source.shape);
}

bool fits(const ModelTensor& tensor, const StoredTensor& source, int rank) {
  if (!can_fill(tensor.tensor.scalar_type(), source.dtype)) {
    return false;
  }
  if (belongs_to_rank(source)) {
    return !tensor.attributes.has_value() &&
           tensor.tensor.sizes() ==
               source.rank_shapes[static_cast<size_t>(rank)];
  }
  return tensor.whole_shape() == source.shape;
}

}  // namespace

void check_degree(const StoredTensor& source, int degree) {
  check<CheckpointError>(
      !belongs_to_rank(source) ||
          source.parts.size() == static_cast<size_t>(degree),
      "load: ", source.name,
      ": belongs to its rank, since it differed between the ",
      source.parts.size(),
      " tensor-parallel ranks that saved it; it cannot be loaded on ", degree);
}

void read_wanted(const CheckpointRanks& ranks, std::vector<Wanted>& wanted) {
  const auto descriptions =
      gather_bytes(ranks.tensor_parallel, describe_wanted(wanted));
  std::vector<uint64_t> digests;
  together(ranks.world, [&] {
    const auto answers = find_answers(wanted, descriptions, ranks.rank);
    for (size_t i = 0; i < wanted.size(); ++i) {
      digests.push_back(read_one(wanted[i], answers[i], ranks.rank));
    }
  });
  const auto sums = gather_bytes(ranks.tensor_parallel,
                                 {reinterpret_cast<const char*>(digests.data()),
                                  digests.size() * sizeof(uint64_t)});
  together(ranks.world, [&] { check_sums(wanted, sums); });
}

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
