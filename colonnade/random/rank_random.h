// colonnade/random/rank_random.h
#pragma once

#include "colonnade/core/api.h"

namespace colonnade {

/// Puts the rank's generators behind every random op of torch on the calling
/// thread, until it is destroyed. `launch` holds one for the life of a rank.
///
/// Ops that are given a generator keep it; ops whose schema has none cost
/// nothing more.
class COLONNADE_API RankRandomScope {
 public:
  RankRandomScope();
  ~RankRandomScope();
  RankRandomScope(const RankRandomScope&) = delete;
  RankRandomScope& operator=(const RankRandomScope&) = delete;

 private:
  bool was_inside_;
};

}  // namespace colonnade
