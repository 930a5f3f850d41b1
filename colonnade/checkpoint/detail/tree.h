// colonnade/checkpoint/detail/tree.h
#pragma once

#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/api.h"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>
#include <vector>

namespace colonnade::detail {

/// A value that holds no further values, or an empty list or dict.
struct Leaf {
  std::string name;            ///< The path joined by dots.
  std::vector<StateKey> path;  ///< From the root; items of lists by number.
  std::string containers;      ///< d, l or t for each step of the path.
  const StateValue* value;
};

/// All leaves, in order. They point into `root`.
///
/// Errors  InvalidArgument names the key where two paths give one name, a key
///         or string is not UTF-8, or dicts are nested too deeply
std::vector<Leaf> find_leaves(const StateDict& root);

/// The whole tree: {"dict": [[key, value], …]}, {"list": […]}, {"tuple": […]},
/// {"tensor": name}, {"float": "nan"} (inf, -inf), or the value itself.
nlohmann::json encode_tree(const StateDict& root);
/// The same for one leaf.
nlohmann::json encode_leaf(const Leaf& leaf);

/// The other way round; `tensor` gives the value for a tensor's name.
///
/// Errors  CheckpointError where it is not such a tree, with `subject` in front
StateDict decode_tree(
    const nlohmann::json& tree, const std::string& subject,
    const std::function<StateValue(const std::string&)>& tensor);

}  // namespace colonnade::detail
