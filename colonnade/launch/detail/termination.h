#pragma once

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/api.h"

#include <functional>
#include <string>
#include <string_view>
#include <thread>

namespace colonnade::detail {

/// Where the rank of `context` is, as another thread sees it: "in
/// all_reduce(…), call 3 of group "tp" (…)", "after …", or "before its first
/// call". Of groups that the context does not know it says nothing.
std::string place_of(const RankContext& context);

/// While it lives, SIGTERM, by which launchers end the ranks that outlive
/// another, prints the rank and `place_of` it to standard error, and has
/// `report` called with that, before it ends the process as ever. A program
/// that handles or ignores SIGTERM keeps its way, and so does a fork.
class COLONNADE_API TerminationReport {
 public:
  TerminationReport(RankContextPtr context,
                    std::function<void(std::string_view)> report);
  ~TerminationReport();
  TerminationReport(const TerminationReport&) = delete;
  TerminationReport& operator=(const TerminationReport&) = delete;

 private:
  bool installed_ = false;
  std::thread thread_;
};

}  // namespace colonnade::detail
