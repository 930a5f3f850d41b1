// cli/validators.cpp
#include "cli/validators.h"

#include "colonnade/core/error.h"

#include <algorithm>
#include <string>
#include <utility>

namespace colonnade::cli {
namespace {

/// `accepts` takes a T; the message is "takes <what>, not
/// '<text>'".
template <typename T, typename Accepts>
CLI::Validator validator(const std::string& what, const Accepts& accepts) {
  return CLI::Validator(
      [what, accepts](std::string& text) -> std::string {
        T value{};
        if (CLI::detail::lexical_cast(text, value) && accepts(value)) {
          return "";
        }
        return concat("takes ", what, ", not '", text, "'");
      },
      "");
}

}  // namespace

CLI::Validator at_least(int64_t least) {
  return validator<int64_t>(concat("a whole number of at least ", least),
                            [least](int64_t value) { return value >= least; });
}

CLI::Validator positive_number() {
  return validator<double>("a number above 0",
                           [](double value) { return value > 0; });
}

CLI::Validator number_from(double least, double most) {
  return validator<double>(
      concat("a number from ", least, " to ", most),
      [=](double value) { return value >= least && value <= most; });
}

CLI::Validator one_of(std::vector<std::string> names) {
  std::string what = names.front();
  for (size_t i = 1; i < names.size(); ++i) {
    what += (i + 1 < names.size() ? ", " : " or ") + names[i];
  }
  return validator<std::string>(
      what, [names = std::move(names)](const std::string& value) {
        return std::find(names.begin(), names.end(), value) != names.end();
      });
}

}  // namespace colonnade::cli
