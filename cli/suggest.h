// cli/suggest.h
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::cli {

/// The candidate that `word` was probably meant to be: at few typing errors'
/// distance (a letter added, left out, changed, or two swapped), or one that it
/// begins. Empty where none is close.
std::optional<std::string> closest(std::string_view word,
                                   const std::vector<std::string>& candidates);

}  // namespace colonnade::cli
