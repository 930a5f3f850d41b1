// cli/format.cpp
#include "cli/format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace colonnade::cli {

std::string with_commas(int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool begins_group = (digits.size() - i) % 3 == 0;
    if (begins_group && !text.empty() && text != "-") {
      text += ',';
    }
    text += digits[i];
  }
  return text;
}

std::string as_bytes(int64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return as_fixed(value, unit == 0 || value >= 100 ? 0 : 1) + " " +
         kUnits[unit];
}

std::string as_duration(double seconds) {
  const auto whole = static_cast<long long>(std::llround(seconds));
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", whole / 3600,
                  whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof(text), "%lld:%02lld", whole / 60, whole % 60);
  }
  return text;
}

std::string as_time(double seconds) {
  constexpr std::array kUnits = {"s", "ms", "us"};
  size_t unit = 0;
  while (seconds < 1 && unit + 1 < kUnits.size()) {
    seconds *= 1000;
    ++unit;
  }
  return as_fixed(seconds, seconds < 10    ? 2
                           : seconds < 100 ? 1
                                           : 0) +
         " " + kUnits[unit];
}

std::string as_fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string right_aligned(const std::string& text, size_t width) {
  std::string aligned(std::max(width, text.size()), ' ');
  std::copy_backward(text.begin(), text.end(), aligned.end());
  return aligned;
}

std::string left_aligned(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

}  // namespace colonnade::cli
