// colonnade/comm/rank_context.cpp
#include "colonnade/comm/rank_context.h"

#include "colonnade/core/error.h"

#include <algorithm>
#include <utility>

namespace colonnade {
namespace {

RankContextPtr& current_context() {
  thread_local RankContextPtr context;
  return context;
}

}  // namespace

RankContext::RankContext(WorldPtr world) : world_(std::move(world)) {}

RankContext::~RankContext() = default;

const RankContextPtr& RankContext::current() {
  RankContextPtr& context = current_context();
  if (context == nullptr) {
    context = std::make_shared<RankContext>(nullptr);
  }
  return context;
}

void RankContext::set_world(WorldPtr world) {
  world_ = std::move(world);
}

void RankContext::add_group(GroupPtr group) {
  check_arg(find_group(group->name()) == nullptr,
            "RankContext: there is a group called \"", group->name(),
            "\" already; give the new one another name");
  const std::lock_guard lock(changing_groups_);
  groups_.push_back(std::move(group));
}

void RankContext::remove_groups() {
  std::vector<GroupPtr> gone;
  const std::lock_guard lock(changing_groups_);
  gone.swap(groups_);
}

std::vector<GroupPtr> RankContext::groups_seen_from_outside() const {
  const std::lock_guard lock(changing_groups_);
  return groups_;
}

const GroupPtr& RankContext::group(std::string_view name) const {
  for (const GroupPtr& group : groups_) {
    if (group->name() == name) {
      return group;
    }
  }
  std::string names;
  for (const GroupPtr& group : groups_) {
    names += concat(names.empty() ? "" : ", ", '"', group->name(), '"');
  }
  throw InvalidArgument(concat(
      "RankContext: this rank has no group called \"", name, "\"; ",
      names.empty()
          ? "it has none: call parallel_state::initialize_model_parallel first"
          : "it has " + names));
}

GroupPtr RankContext::find_group(std::string_view name) const {
  const auto found =
      std::find_if(groups_.begin(), groups_.end(),
                   [&](const GroupPtr& g) { return g->name() == name; });
  return found == groups_.end() ? nullptr : *found;
}

RankContextScope::RankContextScope(RankContextPtr context)
    : previous_(std::exchange(current_context(), std::move(context))) {}

RankContextScope::~RankContextScope() {
  current_context() = std::move(previous_);
}

}  // namespace colonnade
