// colonnade/launch/detail/core_shares.h
#pragma once

#include <cstddef>
#include <vector>

namespace colonnade::detail {

/// The cores that the calling thread may use, divided among ranks that are
/// threads.
class CoreShares {
 public:
  /// pin  whether ranks that fit the cores are to stay on their share of them
  CoreShares(int ranks, bool pin);

  /// How many threads one op of a rank uses.
  int intra_op_threads() const { return intra_op_threads_; }

  /// Pins the calling thread to the share of `rank`. Where the kernel refuses,
  /// it stays where it was: slower at worst.
  void pin(int rank) const;

  /// Moves the calling thread to the share of rank 0 where it runs on that of
  /// another rank, which could not start before this thread's time slice ends
  /// (1 ms). What it is pinned to stays.
  ///
  /// Cost  some ns, 30 us where it moves
  void make_way() const;

 private:
  int intra_op_threads_;
  std::vector<int> cores_;  // to pin to, by rank; empty: none
  size_t share_ = 0;
};

}  // namespace colonnade::detail
