// colonnade/checkpoint/detail/tree.cpp
#include "colonnade/checkpoint/detail/tree.h"

#include "colonnade/core/error.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <unordered_set>
#include <utility>

namespace colonnade::detail {
namespace {

using nlohmann::json;

// Far below what overflows a thread's stack.
constexpr size_t kMaxDepth = 200;

bool is_utf8(const std::string& text) {
  try {
    (void)json(text).dump();
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

std::string join_name(const std::string& parent, const std::string& part) {
  return parent.empty() ? part : parent + "." + part;
}

class LeafFinder {
 public:
  explicit LeafFinder(std::vector<Leaf>& leaves) : leaves_(leaves) {}

  void visit(const StateDict& dict, const std::string& name) {
    for (const auto& [key, value] : dict) {
      step(key, 'd', value, name);
    }
  }

 private:
  void visit(const StateList& list, const std::string& name) {
    for (size_t i = 0; i < list.items.size(); ++i) {
      step(static_cast<int64_t>(i), list.is_tuple ? 't' : 'l', list.items[i],
           name);
    }
  }

  void step(const StateKey& key, char container, const StateValue& value,
            const std::string& parent) {
    const std::string part = to_string(key);
    check_arg(is_utf8(part), "save: a key of \"", parent, "\" is not UTF-8");
    check_arg(path_.size() < kMaxDepth, "save: ", parent,
              ": is nested deeper "
              "than ",
              kMaxDepth, " levels");
    const std::string name = join_name(parent, part);
    path_.push_back(key);
    containers_.push_back(container);
    const auto* dict = std::get_if<StateDict>(&value.variant());
    const auto* list = std::get_if<StateList>(&value.variant());
    if (dict != nullptr && !dict->empty()) {
      visit(*dict, name);
    } else if (list != nullptr && !list->items.empty()) {
      visit(*list, name);
    } else {
      add(name, value);
    }
    containers_.pop_back();
    path_.pop_back();
  }

  void add(const std::string& name, const StateValue& value) {
    check_arg(names_.insert(name).second, "save: ", name,
              ": is the name of two values, since keys are joined by dots; "
              "rename one");
    check_arg(!value.is<std::string>() || is_utf8(value.to_string()),
              "save: ", name,
              ": is a string that is not UTF-8; save bytes as a tensor");
    leaves_.push_back({name, path_, containers_, &value});
  }

  std::vector<Leaf>& leaves_;
  std::unordered_set<std::string> names_;
  std::vector<StateKey> path_;
  std::string containers_;
};

/// A value that is no tensor and no container.
json encode_plain(const StateValue& value) {
  if (value.is<bool>()) {
    return value.to_bool();
  }
  if (value.is<int64_t>()) {
    return value.to_int();
  }
  if (value.is<double>()) {
    const double number = value.to_double();
    if (std::isfinite(number)) {
      return number;
    }
    const char* text = number > 0 ? "inf" : "-inf";
    return {{"float", std::isnan(number) ? "nan" : text}};
  }
  if (value.is<std::string>()) {
    return value.to_string();
  }
  return nullptr;
}

json encode(const StateValue& value, const std::string& name);

json encode(const StateDict& dict, const std::string& name) {
  json entries = json::array();
  for (const auto& [key, value] : dict) {
    json encoded_key =
        std::visit([](const auto& held) { return json(held); }, key);
    entries.push_back(
        json::array({std::move(encoded_key),
                     encode(value, join_name(name, to_string(key)))}));
  }
  return {{"dict", std::move(entries)}};
}

json encode(const StateValue& value, const std::string& name) {
  if (value.is<StateDict>()) {
    return encode(value.to_dict(), name);
  }
  if (value.is<StateList>()) {
    const StateList& list = value.to_list();
    json items = json::array();
    for (size_t i = 0; i < list.items.size(); ++i) {
      items.push_back(encode(list.items[i], concat(name, ".", i)));
    }
    return {{list.is_tuple ? "tuple" : "list", std::move(items)}};
  }
  if (value.is<StateTensor>()) {
    return {{"tensor", name}};
  }
  return encode_plain(value);
}

class Decoder {
 public:
  Decoder(const std::string& subject,
          const std::function<StateValue(const std::string&)>& tensor)
      : subject_(subject), tensor_(tensor) {}

  StateValue decode(const json& value, size_t depth) const {
    demand(depth <= kMaxDepth + 1, "is nested too deeply");
    switch (value.type()) {
      case json::value_t::null:
        return {};
      case json::value_t::boolean:
        return value.get<bool>();
      case json::value_t::number_unsigned:
      case json::value_t::number_integer:
        return value.get<int64_t>();
      case json::value_t::number_float:
        return value.get<double>();
      case json::value_t::string:
        return value.get<std::string>();
      case json::value_t::object:
        demand(value.size() == 1, "has an object of several kinds");
        return decode_object(value.begin().key(), value.begin().value(), depth);
      default:
        demand(false, "has an array where a value is expected");
        return {};
    }
  }

 private:
  void demand(bool ok, const char* what) const {
    check<CheckpointError>(ok, subject_, ": the state ", what);
  }

  StateValue decode_object(const std::string& kind, const json& held,
                           size_t depth) const {
    if (kind == "tensor" || kind == "float") {
      demand(held.is_string(), "has a tensor or a float without its text");
      const std::string text = held.get<std::string>();
      if (kind == "tensor") {
        return tensor_(text);
      }
      demand(text == "nan" || text == "inf" || text == "-inf",
             "has a float that is not known");
      return std::stod(text);
    }
    demand(held.is_array(), "has a list or a dict without its items");
    if (kind == "list" || kind == "tuple") {
      StateList list;
      list.is_tuple = kind == "tuple";
      for (const json& item : held) {
        list.items.push_back(decode(item, depth + 1));
      }
      return list;
    }
    demand(kind == "dict", "has an object of a kind that is not known");
    StateDict dict;
    for (const json& entry : held) {
      demand(entry.is_array() && entry.size() == 2 &&
                 (entry[0].is_string() || entry[0].is_number_integer()),
             "has a dict with an entry that is not a key and a value");
      const StateKey key = entry[0].is_string()
                               ? StateKey(entry[0].get<std::string>())
                               : StateKey(entry[0].get<int64_t>());
      dict[key] = decode(entry[1], depth + 1);
    }
    return dict;
  }

  const std::string& subject_;
  const std::function<StateValue(const std::string&)>& tensor_;
};

}  // namespace

std::vector<Leaf> find_leaves(const StateDict& root) {
  std::vector<Leaf> leaves;
  LeafFinder(leaves).visit(root, "");
  return leaves;
}

json encode_leaf(const Leaf& leaf) {
  return encode(*leaf.value, leaf.name);
}

json encode_tree(const StateDict& root) {
  return encode(root, "");
}

StateDict decode_tree(
    const json& tree, const std::string& subject,
    const std::function<StateValue(const std::string&)>& tensor) {
  StateValue root = Decoder(subject, tensor).decode(tree, 0);
  check<CheckpointError>(root.is<StateDict>(), subject,
                         ": the state is not a dict");
  return std::move(root.to_dict());
}

}  // namespace colonnade::detail
