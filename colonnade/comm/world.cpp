// colonnade/comm/world.cpp
#include "colonnade/comm/world.h"

#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <functional>

namespace colonnade {

World::~World() = default;

void World::look() {}

void World::begin_call(uint64_t) noexcept {}

void World::rest(uint64_t) noexcept {}

void World::check_ranks(const std::string& name,
                        const std::vector<int64_t>& ranks) const {
  const at::IntArrayRef list = ranks;
  check_arg(std::adjacent_find(ranks.begin(), ranks.end(),
                               std::greater_equal<>()) == ranks.end() &&
                !ranks.empty() && ranks.front() >= 0 && ranks.back() < size(),
            "make_group: the ranks ", list, " of group \"", name,
            "\" are not ascending ranks of a world of ", size());
  check_arg(std::binary_search(ranks.begin(), ranks.end(), rank()),
            "make_group: rank ", rank(), " is not one of the ranks ", list,
            " of group \"", name, "\"; only members make a group");
}

}  // namespace colonnade
