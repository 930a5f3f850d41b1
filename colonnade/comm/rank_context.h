// colonnade/comm/rank_context.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/api.h"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <typeindex>
#include <unordered_map>
#include <vector>

namespace colonnade {

class RankContext;
using RankContextPtr = std::shared_ptr<RankContext>;

/// What one rank knows: its world, its groups by name, and one slot for each
/// type that a room above keeps here (mesh, generators).
///
/// `launch` sets it for the thread of a rank. Library code reads it when a
/// layer is built or an op starts. A backward, which autograd may run on
/// another thread, enters the context that its node saved (RankContextScope).
class COLONNADE_API RankContext {
 public:
  /// Null `world`: a program that started no ranks; it has no groups until
  /// parallel state makes a world of one.
  explicit RankContext(WorldPtr world);
  ~RankContext();
  RankContext(const RankContext&) = delete;
  RankContext& operator=(const RankContext&) = delete;

  /// The calling thread's context. A thread that `launch` did not start and
  /// that never entered a scope gets an empty one of its own.
  static const RankContextPtr& current();

  const WorldPtr& world() const { return world_; }
  void set_world(WorldPtr world);

  const std::vector<GroupPtr>& groups() const { return groups_; }
  /// The same, for a thread that is not the rank's.
  std::vector<GroupPtr> groups_seen_from_outside() const;
  void add_group(GroupPtr group);  ///< Under its own name.
  void remove_groups();
  /// The group called `name`; InvalidArgument says which groups there are and
  /// how they are made.
  const GroupPtr& group(std::string_view name) const;
  /// Null where there is none.
  GroupPtr find_group(std::string_view name) const;

  /// The `T` kept in this context, made with T{} at first use.
  template <typename T>
  T& slot() {
    std::shared_ptr<void>& place = slots_[std::type_index(typeid(T))];
    if (place == nullptr) {
      place = std::make_shared<T>();
    }
    return *static_cast<T*>(place.get());
  }

 private:
  friend class RankContextScope;

  WorldPtr world_;
  std::vector<GroupPtr> groups_;  // few: found by comparing names
  mutable std::mutex changing_groups_;
  std::unordered_map<std::type_index, std::shared_ptr<void>> slots_;
};

/// Makes a context the calling thread's, and puts the old one back at the end.
class COLONNADE_API RankContextScope {
 public:
  explicit RankContextScope(RankContextPtr context);
  ~RankContextScope();
  RankContextScope(const RankContextScope&) = delete;
  RankContextScope& operator=(const RankContextScope&) = delete;

 private:
  RankContextPtr previous_;
};

}  // namespace colonnade
