// tests/trace/fuzz/json_mutator.cpp
#include "tests/trace/fuzz/json_mutator.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <random>
#include <vector>

namespace colonnade::testing {
namespace {

using json = nlohmann::ordered_json;

/// Values at which a reader may trip.
const std::vector<json>& odd_values() {
  static const std::vector<json> kValues = {
      nullptr,
      true,
      0,
      1,
      -1,
      2,
      5,
      64,
      int64_t{1} << 31,
      int64_t{1} << 40,
      INT64_MAX,
      INT64_MIN,
      UINT64_MAX,
      0.5,
      1e300,
      "",
      "%0",
      "%1",
      "%2",
      "%2147483647",
      "%2147483648",
      "$0",
      "$1",
      "leaf",
      json::array(),
      json::object(),
      json::array({0}),
      json::array({"%0", "%1"}),
      json::array({nullptr, "%0"}),
      {{"input", 0}},
      {{"number", 2}},
      {{"number", "$0"}},
      {{"number", {{"number", 1}}}},
      {{"float", "nan"}},
      {{"complex", {0.5, 1.5}}},
      {{"string", "tp"}},
      {{"device", "cuda:1"}},
      {{"device", "meta"}},
      {{"guard", true}},
      {{"guard", 3}},
      {{"tuple", {"leaf"}}},
      {{"list", {"leaf", nullptr}}},
      {{"size", 2}, {"variable", 1}},
  };
  return kValues;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string mutate(const std::string& text) {
    json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded() || below(8) == 0) {
      return change_bytes(text);
    }
    if (below(4) == 0) {
      change_op(object);
    } else {
      change_part(object);
    }
    return object.dump();
  }

 private:
  size_t below(size_t count) { return count == 0 ? 0 : random_() % count; }

  std::string change_bytes(std::string text) {
    for (size_t i = below(4) + 1; i > 0 && !text.empty(); --i) {
      const size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = static_cast<char>(random_());
          break;
        case 1:
          text.erase(at, below(16) + 1);
          break;
        case 2:
          text.insert(at, text.substr(below(text.size()), below(64)));
          break;
        default:
          text[at] = "{}[]\",:0%$"[below(10)];
      }
    }
    return text;
  }

  /// Makes a call one of any op that there is, with arguments as they were or
  /// as many as it takes.
  void change_op(json& object) {
    static const auto kNames = [] {
      auto names = c10::Dispatcher::singleton().getAllOpNames();
      std::ranges::sort(names, {}, [](const c10::OperatorName& name) {
        return c10::toString(name);
      });
      return names;
    }();
    const c10::OperatorName& name = kNames[below(kNames.size())];
    const auto op = c10::Dispatcher::singleton().findSchema(name);
    const auto nodes = object.find("nodes");
    if (!op.has_value() || nodes == object.end() || !nodes->is_array() ||
        nodes->empty() || !object["ops"].is_object()) {
      return;
    }
    json& node = (*nodes)[below(nodes->size())];
    if (!node.is_object()) {
      return;
    }
    node["op"] = c10::toString(name);
    object["ops"][c10::toString(name)] = c10::toString(op->schema());
    const auto fill = [&](const char* key, size_t count) {
      if (!node[key].is_array()) {
        node[key] = json::array();
      }
      json& list = node[key];
      while (list.size() < count) {
        list.push_back(odd_values()[below(odd_values().size())]);
      }
      list.erase(list.begin() + static_cast<std::ptrdiff_t>(count), list.end());
    };
    fill("arguments", op->schema().arguments().size());
    fill("results", op->schema().returns().size());
  }

  void change_part(json& object) {
    std::vector<json*> parts;
    const auto collect = [&](auto&& self, json& part) -> void {
      parts.push_back(&part);
      for (auto& [key, item] : part.items()) {
        if (part.is_structured() && key != "ops") {
          self(self, item);
        }
      }
    };
    collect(collect, object);
    json& part = *parts[below(parts.size())];
    const json other = *parts[below(parts.size())];
    switch (below(5)) {
      case 0:
        part = odd_values()[below(odd_values().size())];
        break;
      case 1:
        if (other.size() < 100) {
          part = other;
        }
        break;
      case 2:
        remove_from(part);
        break;
      case 3:
        if (part.is_array()) {
          part.push_back(part.empty() || below(2) == 0
                             ? odd_values()[below(odd_values().size())]
                             : json(part[below(part.size())]));
        } else if (part.is_number_integer()) {
          // Wraps around at the ends, which unsigned numbers may.
          part = static_cast<int64_t>(
              static_cast<uint64_t>(part.get<int64_t>()) + below(5) - 2);
        }
        break;
      default:
        if (part.is_array() && part.size() > 1) {
          std::swap(part[below(part.size())], part[below(part.size())]);
        }
    }
  }

  void remove_from(json& part) {
    if (part.is_structured() && !part.empty()) {
      auto at = part.begin();
      std::advance(at, below(part.size()));
      part.erase(at);
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

std::string mutate_graph_text(const std::string& text, uint64_t seed) {
  return Mutator(seed).mutate(text);
}

std::string with_running_schemas(const std::string& text) {
  json object = json::parse(text);
  for (auto& [name, schema] : object["ops"].items()) {
    const size_t dot = name.find('.');
    const auto op = c10::Dispatcher::singleton().findSchema(
        {name.substr(0, dot),
         dot == std::string::npos ? "" : name.substr(dot + 1)});
    if (op.has_value()) {
      schema = c10::toString(op->schema());
    }
  }
  return object.dump();
}

}  // namespace colonnade::testing
