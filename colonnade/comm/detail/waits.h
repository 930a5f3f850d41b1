// colonnade/comm/detail/waits.h
#pragma once

#include "colonnade/comm/call.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// Takes out of `ranks`, which all wait, those that will be freed: whoever
/// waits for nobody else in the set. What is left waits for itself, for ever.
///
/// waits_for  whether the first of two ranks waits for the second
template <typename WaitsFor>
void keep_circle(std::vector<bool>& ranks, WaitsFor waits_for) {
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < ranks.size(); ++i) {
      bool stuck = false;
      for (size_t j = 0; ranks[i] && !stuck && j < ranks.size(); ++j) {
        stuck = ranks[j] && waits_for(i, j);
      }
      changed |= ranks[i] && !stuck;
      ranks[i] = stuck;
    }
  }
}

/// "rank 1 waits in barrier(), call 2 of group "tp"".
std::string waits_in(int64_t rank, const Call& call, uint64_t round,
                     std::string_view meeting);

/// That ranks wait in a circle; `waits` is `waits_in` of each.
std::string wait_for_each_other(const std::vector<std::string>& waits);

/// That the ranks `gone` have returned, and `rank` waits for them.
std::string has_returned(const std::vector<int64_t>& gone, int64_t rank,
                         const Call& call, uint64_t round,
                         std::string_view meeting);

/// That `missing` did not come; `waits` is `waits_in` of those of them that
/// wait elsewhere.
std::string did_not_come(const std::vector<int64_t>& missing,
                         const std::vector<std::string>& waits);

}  // namespace colonnade::detail
