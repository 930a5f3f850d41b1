// colonnade/checkpoint/detail/saver.cpp
#include "colonnade/checkpoint/detail/saver.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/tree.h"
#include "colonnade/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace colonnade::detail {
namespace {

using nlohmann::json;

/// What must be equal on every rank: the keys, where they are nested, and the
/// plain values.
json describe_plain(const std::vector<Leaf>& leaves) {
  json result = json::object();
  for (const Leaf& leaf : leaves) {
    const std::string value =
        leaf.value->is<StateTensor>() ? "a tensor" : encode_leaf(leaf).dump();
    result[leaf.name] = {leaf.containers, value};
  }
  return result;
}

/// Sentences about the keys on which a rank differs from rank 0.
std::string compare(const json& first, const json& other, size_t rank) {
  std::string problems;
  for (const auto& [name, value] : first.items()) {
    if (!other.contains(name)) {
      problems += concat("\n  ", name, ": is missing on rank ", rank);
    } else if (other[name][1] != value[1]) {
      problems += concat("\n  ", name, ": is ", value[1].get<std::string>(),
                         " on rank 0 and ", other[name][1].get<std::string>(),
                         " on rank ", rank);
    } else if (other[name] != value) {
      problems += concat("\n  ", name,
                         ": is nested in other lists, tuples or "
                         "dicts on rank 0 than on rank ",
                         rank);
    }
  }
  for (const auto& [name, value] : other.items()) {
    if (!first.contains(name)) {
      problems += concat("\n  ", name,
                         ": is missing on rank 0, but not on rank ", rank);
    }
  }
  return problems;
}

/// Throws, on every rank alike, unless `text` is equal on all.
void check_equal(const CheckpointRanks& ranks, const std::string& text) {
  const auto digests = gather_bytes(ranks.world, bytes_digest(text));
  if (std::ranges::all_of(digests, [&](const std::string& digest) {
        return digest == digests[0];
      })) {
    return;
  }
  const auto texts = gather_bytes(ranks.world, text);
  const json first = json::parse(texts[0]);
  std::string problems;
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    problems += compare(first, json::parse(texts[rank]), rank);
  }
  throw InvalidArgument("save: ranks differ in values that belong to all:" +
                        problems);
}

std::vector<std::vector<uint64_t>> gather_digests(
    const GroupPtr& group, const std::vector<uint64_t>& digests) {
  const auto texts =
      gather_bytes(group, {reinterpret_cast<const char*>(digests.data()),
                           digests.size() * sizeof(uint64_t)});
  std::vector<std::vector<uint64_t>> result;
  for (const std::string& text : texts) {
    auto& list = result.emplace_back(text.size() / sizeof(uint64_t));
    if (!list.empty()) {
      std::memcpy(list.data(), text.data(), text.size());
    }
  }
  return result;
}

}  // namespace

PreparedSave prepare_save(const CheckpointRanks& ranks,
                          const StateDict& state) {
  PreparedSave result;
  std::string plain;
  together(ranks.world, [&] {
    const std::vector<Leaf> leaves = find_leaves(state);
    result.tensors = find_tensors(leaves);
    plain = describe_plain(leaves).dump();
  });
  check_equal(ranks, plain);

  const auto descriptions =
      gather_bytes(ranks.tensor_parallel, describe(result.tensors));
  std::vector<uint64_t> digests;
  together(ranks.world, [&] {
    result.plan = make_plan(descriptions);
    if (ranks.writes) {
      digests = digest_local(result.plan, result.tensors, ranks.rank);
    }
  });
  std::vector<std::vector<uint64_t>> all_digests;
  if (ranks.writes) {
    all_digests = gather_digests(ranks.tensor_parallel, digests);
  }
  together(ranks.world, [&] {
    if (ranks.writes) {
      assign_parts(result.plan, all_digests);
    }
  });
  return result;
}

}  // namespace colonnade::detail
