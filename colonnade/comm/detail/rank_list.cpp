// colonnade/comm/detail/rank_list.cpp
#include "colonnade/comm/detail/rank_list.h"

namespace colonnade::detail {

std::string rank_list(const std::vector<int64_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) {
      text += i + 1 < ranks.size() ? ", " : " and ";
    }
    text += std::to_string(ranks[i]);
  }
  return text;
}

}  // namespace colonnade::detail
