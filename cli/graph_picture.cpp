// cli/graph_picture.cpp
#include "cli/graph_picture.h"

#include "cli/call_kind.h"
#include "cli/format.h"
#include "cli/graph_layout.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

namespace colonnade::cli {
namespace {

using trace::Graph;
using trace::Node;
using trace::Weight;

// Pixels.
constexpr double kRow = 20;
constexpr double kLane = 14;
constexpr double kLeft = 26;
constexpr double kTop = 110;
constexpr double kLabels = 560;  // from the lanes to the end of the shapes
constexpr double kBars = 150;
constexpr double kMargin = 20;

constexpr std::array<std::pair<const char*, const char*>, 5> kKinds{{
    {"collective", "collective"},
    {"state", "cache and other state"},
    {"product", "matrix product"},
    {"view", "view"},
    {"other", "other"},
}};

const char* class_of(CallKind kind) {
  return kKinds[static_cast<size_t>(kind)].first;
}

constexpr const char* kStyle = R"(<style>
  text { fill: #27303a } .page { fill: #ffffff }
  .quiet { fill: #7b8794 } .name { font-weight: bold }
  .frame { fill: #f4f6f8; stroke: #cfd6dd }
  .edge { stroke: #a3aeb9; fill: none; stroke-width: 1.4 }
  .collective { fill: #d1495b } .band { fill: #d1495b; opacity: 0.12 }
  .state { fill: #2a9d6f } .product { fill: #1f6fb4 }
  .other { fill: #8593a1 } .end { fill: #27303a }
  .view { fill: #ffffff; stroke: #8593a1; stroke-width: 1.4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #d5d8dd } .page { fill: #16181c } .quiet { fill: #8a9099 }
    .frame { fill: #1e2227; stroke: #363c44 } .edge { stroke: #5b646e }
    .collective { fill: #ff8a98 } .band { fill: #ff8a98; opacity: 0.15 }
    .state { fill: #5fd3a4 } .product { fill: #6cb2f0 }
    .other { fill: #8a9099 } .end { fill: #d5d8dd }
    .view { fill: #16181c; stroke: #8a9099 }
  }
</style>
)";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// The end of a text that is too long.
std::string shortened(const std::string& text, size_t length) {
  return text.size() <= length
             ? text
             : concat("\u2026", text.substr(text.size() - length));
}

/// "mul" of "aten::mul.Tensor".
std::string short_name(const std::string& op) {
  const size_t colons = op.find("::");
  const size_t begin = colons == std::string::npos ? 0 : colons + 2;
  return op.substr(begin, op.find('.', begin) - begin);
}

std::string times_calls(const GraphSection& section) {
  const std::string calls = concat(section.count, " calls");
  return section.repeats == 1 ? calls
                              : concat(section.repeats, " \u00d7 ", calls);
}

class Picture {
 public:
  Picture(const Graph& graph, const std::vector<double>& seconds)
      : graph_(graph), seconds_(seconds), layout_(layout_of(graph)) {
    name_weights();
    place_rows();
    text_x_ = kLeft + kLane * layout_.lanes + 10;
    width_ = text_x_ + kLabels + (seconds.empty() ? 0 : kBars) + kMargin;
  }

  std::string draw(const std::string& title) {
    svg_ << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << width_
         << ' ' << height_ << "' width='" << width_ << "' height='" << height_
         << "' font-family='sans-serif' font-size='12.5'>\n<title>"
         << escaped(title) << "</title>\n"
         << kStyle << "<rect class='page' width='" << width_ << "' height='"
         << height_ << "'/>\n";
    draw_head(title);
    draw_frames();
    for (size_t row = 0; row < layout_.rows.size(); ++row) {
      draw_band(row);
      draw_edges(row);
    }
    const double longest = longest_bar();
    for (size_t row = 0; row < layout_.rows.size(); ++row) {
      draw_row(row, longest);
    }
    svg_ << "</svg>\n";
    return svg_.str();
  }

 private:
  bool begins_section(size_t row) const {
    const GraphRow& at = layout_.rows[row];
    return at.what == GraphRow::What::kCall &&
           layout_.sections[at.section].first == at.index;
  }
  bool is_framed(size_t row) const {
    const GraphRow& at = layout_.rows[row];
    return at.what == GraphRow::What::kCall &&
           !layout_.sections[at.section].name.empty();
  }

  /// One below the other, with room for the frames' titles.
  void place_rows() {
    double y = kTop;
    bool was_framed = false;
    for (size_t row = 0; row < layout_.rows.size(); ++row) {
      const bool framed = is_framed(row);
      if (framed && begins_section(row)) {
        y += was_framed ? 2.2 * kRow : 1.8 * kRow;
      } else if (was_framed && !framed) {
        y += 0.8 * kRow;
      }
      was_framed = framed;
      y_.push_back(y);
      y += kRow;
    }
    height_ = y + kMargin;
  }

  double x_of(const GraphRow& row) const { return kLeft + kLane * row.lane; }

  void text(double x, double y, const std::string& words,
            const std::string& attributes = "") {
    svg_ << "<text x='" << x << "' y='" << y << "' " << attributes << '>'
         << escaped(words) << "</text>\n";
  }

  void draw_head(const std::string& title) {
    int64_t collectives = 0;
    for (const Node& node : graph_.nodes) {
      collectives += kind_of(graph_, node) == CallKind::kCollective ? 1 : 0;
    }
    text(kLeft - 6, 28, title, "class='name' font-size='16'");
    text(kLeft - 6, 48,
         concat(with_commas(static_cast<int64_t>(graph_.nodes.size())),
                " calls; collectives: ", collectives, "; recorded on ",
                graph_.degree, graph_.degree == 1 ? " rank" : " ranks",
                graph_.fixed.has_value() ? "" : ", for any number"),
         "class='quiet'");
    double x = kLeft;
    for (const auto& [name, words] : kKinds) {
      svg_ << "<circle class='" << name << "' r='4.5' cx='" << x
           << "' cy='66'/>";
      text(x + 9, 70, words, "class='quiet'");
      x += 34 + 6.6 * static_cast<double>(std::string_view(words).size());
    }
    text(text_x_ + kLabels, kTop - kRow + 4.5, "in the example",
         "class='quiet' text-anchor='end'");
    if (!seconds_.empty()) {
      text(text_x_ + kLabels + kBars - 4, kTop - kRow + 4.5, "time in a pass",
           "class='quiet' text-anchor='end'");
    }
  }

  void draw_frames() {
    for (size_t row = 0; row < layout_.rows.size(); ++row) {
      if (!is_framed(row) || !begins_section(row)) {
        continue;
      }
      const GraphSection& section = layout_.sections[layout_.rows[row].section];
      const double top = y_[row] - 1.8 * kRow;
      const double bottom = y_[row + section.count - 1] + 0.7 * kRow;
      svg_ << "<rect class='frame' rx='6' x='" << kLeft - 14 << "' y='" << top
           << "' width='" << width_ - kLeft + 14 - kMargin / 2 << "' height='"
           << bottom - top << "'/>\n";
      text(text_x_, top + 20,
           section.repeats == 1
               ? section.name
               : concat(section.name, " \u2026 ", section.last_name),
           "class='name'");
      text(text_x_ + kLabels, top + 20, times_calls(section),
           "class='quiet' text-anchor='end'");
    }
  }

  /// Behind a collective, across the picture: here ranks wait for each other.
  void draw_band(size_t row) {
    const GraphRow& at = layout_.rows[row];
    if (at.what == GraphRow::What::kCall &&
        kind_of(graph_, graph_.nodes[at.index]) == CallKind::kCollective) {
      svg_ << "<rect class='band' x='" << kLeft - 10 << "' y='"
           << y_[row] - kRow / 2 << "' width='" << width_ - kLeft + 10 - kMargin
           << "' height='" << kRow << "' rx='3'/>\n";
    }
  }

  /// Down the source's lane, and over to this row's in the last step.
  void draw_edges(size_t row) {
    const double x = x_of(layout_.rows[row]);
    const double y = y_[row];
    for (const size_t source : layout_.rows[row].sources) {
      const double from = x_of(layout_.rows[source]);
      svg_ << "<path class='edge' d='M" << from << ' ' << y_[source];
      if (from != x) {
        const double bend = y - kRow;
        svg_ << 'V' << bend << 'C' << from << ' ' << y - kRow / 2 << ' ' << x
             << ' ' << bend + kRow / 2 << ' ' << x << ' ' << y;
      } else {
        svg_ << 'V' << y;
      }
      svg_ << "'/>\n";
    }
  }

  /// Of all repetitions of the call.
  double seconds_of(const GraphRow& row) const {
    double sum = 0;
    const GraphSection& section = layout_.sections[row.section];
    for (size_t i = 0; i < section.repeats; ++i) {
      sum += seconds_[row.index + i * section.count];
    }
    return sum;
  }

  double longest_bar() const {
    double longest = 0;
    for (const GraphRow& row : layout_.rows) {
      if (row.what == GraphRow::What::kCall && !seconds_.empty()) {
        longest = std::max(longest, seconds_of(row));
      }
    }
    return longest;
  }

  /// By value: itself, or what the prologue makes it of.
  void name_weights() {
    for (const Weight& weight : graph_.weights) {
      names_[weight.value] = {weight.name};
    }
    for (const Node& node : graph_.prologue) {
      std::vector<std::string> names;
      for (const int value : values_given(node)) {
        const auto& more = names_[value];
        names.insert(names.end(), more.begin(), more.end());
      }
      for (const int value : values_made(node)) {
        names_[value] = names;
      }
    }
  }

  /// The weights and states that a call is given.
  std::string weights_of(const GraphRow& row) const {
    const std::string layer = layout_.sections[row.section].name + ".";
    std::string names;
    for (const int value : values_given(graph_.nodes[row.index])) {
      const auto found = names_.find(value);
      if (found == names_.end()) {
        continue;
      }
      for (const std::string& name : found->second) {
        names += (names.empty() ? "" : ", ") +
                 (name.starts_with(layer) ? name.substr(layer.size()) : name);
      }
    }
    return names;
  }

  std::string shape_of(int value) const {
    const auto& info = graph_.values[static_cast<size_t>(value)];
    return concat(c10::getDtypeNames(info.dtype).first, " ",
                  at::IntArrayRef(info.example_shape));
  }

  void draw_row(size_t number, double longest) {
    const GraphRow& row = layout_.rows[number];
    const double y = y_[number];
    if (row.what != GraphRow::What::kCall) {
      const bool is_input = row.what == GraphRow::What::kInput;
      const int value = is_input
                            ? graph_.inputs[row.index].value
                            : graph_.outputs[row.index].as<trace::Value>().id;
      dot(row, y, "end", 5);
      label(y, is_input ? graph_.inputs[row.index].name : "output", "",
            shape_of(value), true);
      return;
    }
    const Node& node = graph_.nodes[row.index];
    const CallKind kind = kind_of(graph_, node);
    svg_ << "<g><title>" << escaped(to_string(graph_, node)) << "</title>";
    dot(row, y, class_of(kind), kind == CallKind::kView ? 3.5 : 5);
    const std::vector<int> made = values_made(node);
    label(y, short_name(node.op), weights_of(row),
          made.empty() ? "" : shape_of(made[0]), kind == CallKind::kCollective);
    if (longest > 0) {
      bar(y, class_of(kind), seconds_of(row), longest);
    }
    svg_ << "</g>\n";
  }

  void dot(const GraphRow& row, double y, const char* kind, double radius) {
    svg_ << "<circle class='" << kind << "' r='" << radius << "' cx='"
         << x_of(row) << "' cy='" << y << "'/>";
  }

  void label(double y, const std::string& name, const std::string& weights,
             const std::string& shape, bool bold) {
    constexpr double kCharacter = 6.5;  // a usual one's width
    const double room = kLabels / kCharacter -
                        static_cast<double>(name.size() + shape.size()) - 4;
    svg_ << "<text x='" << text_x_ << "' y='" << y + 4.5 << "'"
         << (bold ? " class='name'" : "") << '>' << escaped(name);
    if (!weights.empty() && room > 4) {
      svg_ << "<tspan class='quiet' font-weight='normal' dx='9'>"
           << escaped(shortened(weights, static_cast<size_t>(room)))
           << "</tspan>";
    }
    svg_ << "</text>\n";
    text(text_x_ + kLabels, y + 4.5, shape, "class='quiet' text-anchor='end'");
  }

  void bar(double y, const char* kind, double seconds, double longest) {
    constexpr double kTime = 60;
    const double x = text_x_ + kLabels + 12;
    const double width = (kBars - kTime - 12) * seconds / longest;
    svg_ << "<rect class='"
         << (std::string_view(kind) == "view" ? "other" : kind) << "' x='" << x
         << "' y='" << y - 5 << "' height='10' width='"
         << as_fixed(std::max(width, 0.5), 1) << "'/>";
    text(text_x_ + kLabels + kBars - 4, y + 4.5, as_time(seconds),
         "class='quiet' text-anchor='end'");
  }

  const Graph& graph_;
  const std::vector<double>& seconds_;
  const GraphLayout layout_;
  std::map<int, std::vector<std::string>> names_;  ///< Of weights, by value.
  std::vector<double> y_;                          ///< By row.
  double text_x_ = 0;
  double width_ = 0;
  double height_ = 0;
  std::ostringstream svg_;
};

}  // namespace

std::string draw_as_svg(const Graph& graph, const std::string& title,
                        const std::vector<double>& seconds) {
  return Picture(graph, seconds).draw(title);
}

}  // namespace colonnade::cli
