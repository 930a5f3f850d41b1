// tests/comm/world_group.h
#pragma once

#include "colonnade/comm/rank_context.h"

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

namespace colonnade {

/// A new group of the world ranks `ranks`, of which this rank is one.
inline GroupPtr make_group(std::vector<int64_t> ranks,
                           std::string name = "some") {
  return RankContext::current()->world()->make_group(std::move(name),
                                                     std::move(ranks));
}

/// A new group of all ranks of the world.
inline GroupPtr make_world_group() {
  std::vector<int64_t> ranks(
      static_cast<size_t>(RankContext::current()->world()->size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return make_group(std::move(ranks), "all");
}

}  // namespace colonnade
