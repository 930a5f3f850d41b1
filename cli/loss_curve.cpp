// cli/loss_curve.cpp
#include "cli/loss_curve.h"

#include "cli/format.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <sstream>

namespace colonnade::cli {
namespace {

/// A value range with marks at round numbers.
struct Scale {
  double low;
  double high;
  double step;

  /// `value` as a share of the range, 0 at the low end.
  double place(double value) const { return (value - low) / (high - low); }
};

/// Room for all of [low, high], with about `marks` of 1, 2 or 5 times a power
/// of ten.
Scale round_scale(double low, double high, int marks) {
  const double least = std::max(high - low, 1e-9) / marks;
  const double power = std::pow(10, std::floor(std::log10(least)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) {
      step = factor * power;
      break;
    }
  }
  low = std::floor(low / step) * step;
  high = std::max(std::ceil(high / step) * step, low + step);
  return {low, high, step};
}

struct Axes {
  double first_step;
  double last_step;
  Scale loss;

  double x(const LossPoint& point) const {
    return (static_cast<double>(point.step) - first_step) /
           (last_step - first_step);
  }
  double y(const LossPoint& point) const { return loss.place(point.loss); }
};

Axes axes_of(const LossHistory& history, int marks) {
  const auto& training = history.training();
  double low = training.front().loss;
  double high = low;
  for (const auto* points : {&training, &history.evaluations()}) {
    for (const LossPoint& point : *points) {
      low = std::min(low, point.loss);
      high = std::max(high, point.loss);
    }
  }
  return {.first_step = static_cast<double>(training.front().step),
          .last_step = static_cast<double>(training.back().step),
          .loss = round_scale(low, high, marks)};
}

/// At most `count` points: means over equal numbers of steps.
std::vector<LossPoint> thin_out(const std::vector<LossPoint>& points,
                                size_t count) {
  const size_t bin = (points.size() + count - 1) / count;
  std::vector<LossPoint> means;
  for (size_t first = 0; first < points.size(); first += bin) {
    const size_t end = std::min(first + bin, points.size());
    double sum = 0;
    for (size_t i = first; i < end; ++i) {
      sum += points[i].loss;
    }
    means.push_back({points[(first + end - 1) / 2].step,
                     sum / static_cast<double>(end - first)});
  }
  // The ends of the line are those of the run.
  means.front().step = points.front().step;
  means.back().step = points.back().step;
  return means;
}

/// A drawing of 2 x 4 dots a character.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns),
        rows_(rows),
        dots_(static_cast<size_t>(columns * rows), 0),
        marks_(dots_.size(), false) {}

  int width() const { return 2 * columns_; }
  int height() const { return 4 * rows_; }

  /// From the lower left corner.
  void dot(int x, int y) {
    // The bits of Unicode's braille patterns, by column and row.
    static constexpr unsigned char kBits[2][4] = {{0x01, 0x02, 0x04, 0x40},
                                                  {0x08, 0x10, 0x20, 0x80}};
    dots_[cell(x, y)] |= kBits[x % 2][(height() - 1 - y) % 4];
  }
  void mark(int x, int y) { marks_[cell(x, y)] = true; }

  void line(int x0, int y0, int x1, int y1) {
    const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (int i = 0; i <= steps; ++i) {
      dot(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps);
    }
  }

  std::string row(int row) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const auto at = static_cast<size_t>(row * columns_ + column);
      if (marks_[at]) {
        text += "\u25c6";
      } else if (dots_[at] == 0) {
        text += ' ';
      } else {
        // U+2800 and the bits, in UTF-8.
        text += '\xe2';
        text += static_cast<char>(0xa0 | dots_[at] >> 6);
        text += static_cast<char>(0x80 | (dots_[at] & 0x3f));
      }
    }
    return text.substr(0, text.find_last_not_of(' ') + 1);
  }

 private:
  size_t cell(int x, int y) const {
    return static_cast<size_t>((height() - 1 - y) / 4 * columns_ + x / 2);
  }

  int columns_;
  int rows_;
  std::vector<unsigned char> dots_;
  std::vector<bool> marks_;
};

int scaled(double share, int size) {
  return std::clamp(static_cast<int>(std::lround(share * (size - 1))), 0,
                    size - 1);
}

/// Digits after the point that tell two marks apart.
int digits_of(const Scale& scale) {
  return std::max(0, static_cast<int>(std::ceil(-std::log10(scale.step))));
}

constexpr size_t kLabel = 7;  // columns of a number at the left

std::string label_row(const Scale& scale, int row, int rows) {
  const int mark_count =
      static_cast<int>(std::lround((scale.high - scale.low) / scale.step));
  for (int mark = 0; mark <= mark_count; ++mark) {
    const double share = static_cast<double>(mark) / mark_count;
    if (rows - 1 - scaled(share, rows) == row) {
      return right_aligned(
                 as_fixed(scale.low + mark * scale.step, digits_of(scale)),
                 kLabel) +
             " \u2524";
    }
  }
  return right_aligned("\u2502", kLabel + 4);  // it has three bytes
}

}  // namespace

std::string draw_for_terminal(const LossHistory& history, int columns,
                              int rows) {
  if (history.training().size() < 2) {
    return "";
  }
  const int width = std::max(columns, 30) - static_cast<int>(kLabel) - 2;
  Canvas canvas(width, rows);
  const Axes axes = axes_of(history, std::max(2, rows / 3));
  const auto x = [&](const LossPoint& p) {
    return scaled(axes.x(p), canvas.width());
  };
  const auto y = [&](const LossPoint& p) {
    return scaled(axes.y(p), canvas.height());
  };
  const auto line =
      thin_out(history.training(), static_cast<size_t>(canvas.width()));
  for (size_t i = 1; i < line.size(); ++i) {
    canvas.line(x(line[i - 1]), y(line[i - 1]), x(line[i]), y(line[i]));
  }
  for (const LossPoint& point : history.evaluations()) {
    canvas.mark(x(point), y(point));
  }

  std::ostringstream picture;
  for (int row = 0; row < rows; ++row) {
    picture << label_row(axes.loss, row, rows) << canvas.row(row) << '\n';
  }
  picture << right_aligned("\u2514", kLabel + 4);  // likewise
  for (int i = 0; i < width; ++i) {
    picture << "\u2500";
  }
  const std::string first = std::to_string(history.training().front().step);
  const std::string last = concat("step ", history.training().back().step);
  picture << '\n'
          << right_aligned(first, kLabel + 2 + first.size())
          << right_aligned(last, static_cast<size_t>(width) - first.size())
          << '\n';
  return picture.str();
}

std::string draw_as_svg(const LossHistory& history) {
  constexpr double kWidth = 720;
  constexpr double kHeight = 400;
  constexpr double kLeft = 64;
  constexpr double kRight = 20;
  constexpr double kTop = 44;
  constexpr double kBottom = 48;

  std::ostringstream svg;
  svg << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " << kWidth
      << ' ' << kHeight << "' font-family='sans-serif' font-size='13'>\n"
      << R"(<title>Loss of the training run</title>
<style>
  .page { fill: #ffffff } text { fill: #333333 }
  .grid { stroke: #dddddd } .axis { stroke: #888888 }
  .training { stroke: #1f6fb4; fill: none; stroke-width: 1.8 }
  .held-out { fill: #d1495b }
  @media (prefers-color-scheme: dark) {
    .page { fill: #16181c } text { fill: #d5d8dd }
    .grid { stroke: #33373d } .axis { stroke: #8a9099 }
    .training { stroke: #6cb2f0 } .held-out { fill: #ff8a98 }
  }
</style>
)";
  svg << "<rect class='page' width='" << kWidth << "' height='" << kHeight
      << "'/>\n";
  if (history.training().size() < 2) {
    svg << "<text x='64' y='44'>fewer than two steps</text>\n</svg>\n";
    return svg.str();
  }

  const Axes axes = axes_of(history, 6);
  const auto x_of = [&](double share) {
    return kLeft + share * (kWidth - kLeft - kRight);
  };
  const auto y_of = [&](double share) {
    return kHeight - kBottom - share * (kHeight - kTop - kBottom);
  };
  for (double mark = axes.loss.low; mark < axes.loss.high + axes.loss.step / 2;
       mark += axes.loss.step) {
    const std::string y = as_fixed(y_of(axes.loss.place(mark)), 1);
    svg << "<line class='grid' x1='" << kLeft << "' x2='" << kWidth - kRight
        << "' y1='" << y << "' y2='" << y << "'/>\n<text x='" << kLeft - 8
        << "' y='" << y << "' text-anchor='end' dominant-baseline='middle'>"
        << as_fixed(mark, digits_of(axes.loss)) << "</text>\n";
  }
  const Scale steps = round_scale(axes.first_step, axes.last_step, 6);
  for (double mark = steps.low; mark < axes.last_step + steps.step / 100;
       mark += steps.step) {
    if (mark >= axes.first_step) {
      const double share =
          (mark - axes.first_step) / (axes.last_step - axes.first_step);
      svg << "<text x='" << as_fixed(x_of(share), 1) << "' y='"
          << kHeight - kBottom + 20 << "' text-anchor='middle'>"
          << as_fixed(mark, digits_of(steps)) << "</text>\n";
    }
  }
  svg << "<path class='axis' fill='none' d='M" << kLeft << ' ' << kTop << 'V'
      << kHeight - kBottom << 'H' << kWidth - kRight << "'/>\n";

  svg << "<polyline class='training' points='";
  for (const LossPoint& point : thin_out(history.training(), 600)) {
    svg << as_fixed(x_of(axes.x(point)), 1) << ','
        << as_fixed(y_of(axes.y(point)), 1) << ' ';
  }
  svg << "'/>\n";
  for (const LossPoint& point : history.evaluations()) {
    svg << "<circle class='held-out' r='4' cx='"
        << as_fixed(x_of(axes.x(point)), 1) << "' cy='"
        << as_fixed(y_of(axes.y(point)), 1) << "'><title>step " << point.step
        << ": " << as_fixed(point.loss, 4) << "</title></circle>\n";
  }

  svg << "<text x='" << kLeft << "' y='24'>loss, nats a token</text>\n"
      << "<text x='" << (kLeft + kWidth - kRight) / 2 << "' y='" << kHeight - 8
      << "' text-anchor='middle'>step</text>\n"
      << "<line class='training' x1='470' x2='494' y1='20' y2='20'/>"
      << "<text x='500' y='24'>training</text>\n"
      << "<circle class='held-out' r='4' cx='594' cy='20'/>"
      << "<text x='606' y='24'>held-out text</text>\n</svg>\n";
  return svg.str();
}

}  // namespace colonnade::cli
