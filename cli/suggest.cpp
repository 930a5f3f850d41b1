// cli/suggest.cpp
#include "cli/suggest.h"

#include <algorithm>

namespace colonnade::cli {
namespace {

/// Source  Damerau 1964, in the form that edits no substring twice
size_t typing_errors(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1,
                                        std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      const size_t changed = a[i - 1] == b[j - 1] ? 0 : 1;
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + changed});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::string_view without_dashes(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  return word;
}

}  // namespace

std::optional<std::string> closest(std::string_view word,
                                   const std::vector<std::string>& candidates) {
  const std::string_view bare = without_dashes(word);
  const size_t most = std::max<size_t>(1, bare.size() / 3);
  const std::string* best = nullptr;
  size_t best_errors = most + 1;
  for (const std::string& candidate : candidates) {
    const std::string_view other = without_dashes(candidate);
    size_t errors = typing_errors(bare, other);
    if (bare.size() >= 2 && other.starts_with(bare)) {
      errors = std::min(errors, most);
    }
    if (errors < best_errors) {
      best_errors = errors;
      best = &candidate;
    }
  }
  return best != nullptr ? std::optional(*best) : std::nullopt;
}

}  // namespace colonnade::cli
