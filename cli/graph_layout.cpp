// cli/graph_layout.cpp
#include "cli/graph_layout.h"

#include "cli/graph_summary.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace colonnade::cli {
namespace {

using trace::Graph;
using trace::Node;
using trace::Weight;

/// "model.layers.3": the layer that a weight is of; without a number, none.
struct Layer {
  std::string stem;  ///< "model.layers."
  int64_t number = -1;
  bool operator==(const Layer&) const = default;

  std::string name() const {
    return number < 0 ? "" : stem + std::to_string(number);
  }
};

Layer layer_of(const std::string& weight) {
  for (size_t begin = 0; begin < weight.size();) {
    const size_t end = std::min(weight.find('.', begin), weight.size());
    const bool is_number =
        end > begin && end - begin < 10 &&
        std::all_of(weight.begin() + static_cast<std::ptrdiff_t>(begin),
                    weight.begin() + static_cast<std::ptrdiff_t>(end),
                    [](unsigned char c) { return std::isdigit(c) != 0; });
    if (is_number) {
      return {weight.substr(0, begin),
              std::stoll(weight.substr(begin, end - begin))};
    }
    begin = end + 1;
  }
  return {};
}

/// By value, the layer of the parameter or buffer that it is, or that the
/// prologue made it of.
std::map<int, Layer> layers_of_values(const Graph& graph) {
  std::map<int, Layer> layers;
  for (const Weight& weight : graph.weights) {
    if (weight.kind == Weight::Kind::kParameter ||
        weight.kind == Weight::Kind::kBuffer) {
      layers[weight.value] = layer_of(weight.name);
    }
  }
  for (const Node& node : graph.prologue) {
    for (const int value : values_given(node)) {
      if (const auto found = layers.find(value); found != layers.end()) {
        for (const int made : values_made(node)) {
          layers.emplace(made, found->second);
        }
      }
    }
  }
  return layers;
}

/// How many results of calls before each place are taken at it or after it.
std::vector<int> crossings(const Graph& graph) {
  std::map<int, size_t> made_at;
  std::map<int, size_t> last_use;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const int value : values_given(graph.nodes[i])) {
      last_use[value] = i;
    }
    for (const int value : values_made(graph.nodes[i])) {
      made_at.emplace(value, i);
    }
  }
  std::vector<int> change(graph.nodes.size() + 1, 0);
  for (const auto& [value, made] : made_at) {
    const auto use = last_use.find(value);
    if (use != last_use.end() && use->second > made) {
      ++change[made + 1];
      --change[use->second + 1];
    }
  }
  for (size_t i = 1; i < change.size(); ++i) {
    change[i] += change[i - 1];
  }
  return change;
}

/// The layer of each call: its weights', or else its neighbours'.
std::vector<Layer> layers_of_calls(const Graph& graph) {
  const std::map<int, Layer> of_value = layers_of_values(graph);
  const std::vector<int> crossing = crossings(graph);
  std::vector<Layer> layers(graph.nodes.size());
  Layer current;
  size_t done = 0;  // calls that have their layer
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    std::optional<Layer> own;
    for (const int value : values_given(graph.nodes[i])) {
      if (const auto found = of_value.find(value);
          !own && found != of_value.end()) {
        own = found->second;
      }
    }
    if (!own) {
      continue;
    }
    size_t cut = i;
    if (*own != current) {
      for (size_t place = i; place > done;) {
        --place;
        cut = crossing[place] <= crossing[cut] ? place : cut;
      }
    }
    for (; done <= i; ++done) {
      layers[done] = done < cut ? current : *own;
    }
    current = *own;
  }
  for (; done < layers.size(); ++done) {
    layers[done] = current;
  }
  return layers;
}

bool same_calls(const Graph& graph, size_t a, size_t b, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (graph.nodes[a + i].op != graph.nodes[b + i].op) {
      return false;
    }
  }
  return true;
}

/// A layer of fewer calls is not worth a frame unless it repeats.
constexpr size_t kSmall = 4;

class Layouter {
 public:
  explicit Layouter(const Graph& graph) : graph_(graph) {}

  GraphLayout run() {
    layout_.sections = sections_of(graph_);
    add_inputs();
    for (size_t i = 0; i < layout_.sections.size(); ++i) {
      add_section(i);
    }
    add_outputs();
    assign_lanes();
    return std::move(layout_);
  }

 private:
  void add_inputs() {
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (graph_.inputs[i].value >= 0) {
        made_by_[graph_.inputs[i].value] = layout_.rows.size();
        layout_.rows.push_back({.what = GraphRow::What::kInput, .index = i});
      }
    }
  }

  void add_section(size_t number) {
    const GraphSection& section = layout_.sections[number];
    const size_t first_row = layout_.rows.size();
    for (size_t i = 0; i < section.count; ++i) {
      const Node& node = graph_.nodes[section.first + i];
      layout_.rows.push_back({.index = section.first + i,
                              .section = number,
                              .sources = sources_of(values_given(node))});
      note_results(node, first_row + i);
    }
    // What a later repetition makes comes from the row that stands for it.
    for (size_t i = section.count; i < section.count * section.repeats; ++i) {
      note_results(graph_.nodes[section.first + i],
                   first_row + i % section.count);
    }
  }

  void add_outputs() {
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      if (graph_.outputs[i].is<trace::Value>()) {
        const int value = graph_.outputs[i].as<trace::Value>().id;
        layout_.rows.push_back({.what = GraphRow::What::kOutput,
                                .index = i,
                                .sources = sources_of({value})});
      }
    }
  }

  std::vector<size_t> sources_of(const std::vector<int>& values) const {
    std::vector<size_t> sources;
    for (const int value : values) {
      const auto row = made_by_.find(value);
      if (row != made_by_.end() &&
          std::ranges::find(sources, row->second) == sources.end()) {
        sources.push_back(row->second);
      }
    }
    return sources;
  }

  /// A weight that a call writes stays a weight.
  void note_results(const Node& node, size_t row) {
    for (const int value : values_made(node)) {
      if (std::ranges::find(graph_.weights, value, &Weight::value) ==
          graph_.weights.end()) {
        made_by_[value] = row;
      }
    }
  }

  void assign_lanes() {
    std::vector<size_t> last_use(layout_.rows.size(), 0);
    for (size_t row = 0; row < layout_.rows.size(); ++row) {
      for (const size_t source : layout_.rows[row].sources) {
        last_use[source] = row;
      }
    }
    std::vector<size_t> busy_until;  // by lane
    for (size_t row = 0; row < layout_.rows.size(); ++row) {
      // A lane that ends here goes on with what is made of it, the leftmost
      // first.
      size_t lane = 0;
      while (lane < busy_until.size() && busy_until[lane] > row) {
        ++lane;
      }
      if (lane == busy_until.size()) {
        busy_until.push_back(0);
      }
      layout_.rows[row].lane = static_cast<int>(lane);
      busy_until[lane] = std::max(last_use[row], row);
    }
    layout_.lanes = static_cast<int>(busy_until.size());
  }

  const Graph& graph_;
  GraphLayout layout_;
  std::map<int, size_t> made_by_;  ///< Value to row.
};

}  // namespace

std::vector<GraphSection> sections_of(const Graph& graph) {
  const std::vector<Layer> layers = layers_of_calls(graph);
  std::vector<GraphSection> sections;
  Layer last;  // of the last section's last repetition
  for (size_t first = 0; first < layers.size();) {
    size_t end = first;
    while (end < layers.size() && layers[end] == layers[first]) {
      ++end;
    }
    const Layer& layer = layers[first];
    const size_t count = end - first;
    if (!sections.empty() && layer.number >= 0 && layer.stem == last.stem &&
        layer.number == last.number + 1 && sections.back().count == count &&
        same_calls(graph, sections.back().first, first, count)) {
      ++sections.back().repeats;
      sections.back().last_name = layer.name();
    } else {
      sections.push_back({first, count, 1, layer.name(), layer.name()});
    }
    last = layer;
    first = end;
  }
  std::vector<GraphSection> merged;
  for (GraphSection& section : sections) {
    if (section.repeats == 1 && section.count < kSmall) {
      section.name.clear();
    }
    if (section.name.empty() && !merged.empty() && merged.back().name.empty()) {
      merged.back().count += section.count;
    } else {
      merged.push_back(std::move(section));
    }
  }
  return merged;
}

GraphLayout layout_of(const Graph& graph) {
  return Layouter(graph).run();
}

}  // namespace colonnade::cli
