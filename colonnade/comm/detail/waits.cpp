// colonnade/comm/detail/waits.cpp
#include "colonnade/comm/detail/waits.h"

#include "colonnade/comm/detail/rank_list.h"
#include "colonnade/core/error.h"

namespace colonnade::detail {

std::string waits_in(int64_t rank, const Call& call, uint64_t round,
                     std::string_view meeting) {
  return concat("rank ", rank, " waits in ", to_string(call), ", call ",
                round + 1, " of ", meeting);
}

std::string wait_for_each_other(const std::vector<std::string>& waits) {
  std::string text = "ranks wait for each other: ";
  for (size_t i = 0; i < waits.size(); ++i) {
    text += concat(i == 0 ? "" : "; ", waits[i]);
  }
  return text + "; all ranks must make the same calls in the same order";
}

std::string has_returned(const std::vector<int64_t>& gone, int64_t rank,
                         const Call& call, uint64_t round,
                         std::string_view meeting) {
  const bool one = gone.size() == 1;
  return concat(rank_list(gone), one ? " has" : " have", " returned, but rank ",
                rank, " waits for ", one ? "it" : "them", " in ",
                to_string(call), ", call ", round + 1, " of ", meeting,
                "; all ranks must make the same calls");
}

std::string did_not_come(const std::vector<int64_t>& missing,
                         const std::vector<std::string>& waits) {
  std::string text = rank_list(missing) + ", which did not come";
  for (const std::string& wait : waits) {
    text += "; " + wait;
  }
  return text;
}

}  // namespace colonnade::detail
