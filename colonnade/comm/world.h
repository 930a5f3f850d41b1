// colonnade/comm/world.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {

/// One rank's view of all ranks of a run. One thread uses it at a time, but for
/// `abort`.
class COLONNADE_API World {
 public:
  virtual ~World();

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// The name of its backend, as in the backend table.
  virtual std::string_view backend() const = 0;

  /// Makes the group of `ranks` (world ranks, ascending). Every member calls
  /// this with the same name and ranks; a rank that is not a member does not
  /// call. Made again, it is another group.
  virtual GroupPtr make_group(std::string name, std::vector<int64_t> ranks) = 0;

  /// This rank failed: every rank blocked in, or entering, a collective of this
  /// world throws CommError with this rank and `message`. Never throws. From
  /// any thread, also during a call of this rank: that call throws likewise,
  /// and this returns when it no longer reads or writes its tensors.
  virtual void abort(std::string_view message) noexcept = 0;

  /// For a rank that waits for others in another way than a group of this
  /// world: throws CommError where the world has failed, or a rank of it is
  /// seen to be lost. Called every 50 ms or so.
  virtual void look();

  /// This rank is done: only a collective that waits for it throws.
  virtual void leave() noexcept = 0;

  /// For ranks that stay from call to call (RankPool): call number `call`
  /// begins. One rank says so, before any other is in the call; numbers ascend.
  virtual void begin_call(uint64_t call) noexcept;
  /// This rank has returned from `call` and is about to sleep. A collective of
  /// that call that waits for it throws; the next call makes this void.
  virtual void rest(uint64_t call) noexcept;

 protected:
  /// InvalidArgument unless `ranks` are what make_group takes.
  void check_ranks(const std::string& name,
                   const std::vector<int64_t>& ranks) const;
};

using WorldPtr = std::shared_ptr<World>;

}  // namespace colonnade
