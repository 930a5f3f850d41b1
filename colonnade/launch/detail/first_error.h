// colonnade/launch/detail/first_error.h
#pragma once

#include <exception>
#include <mutex>

namespace colonnade::detail {

/// The first error of ranks that run together. Ranks set it; who started them
/// reads it when all are done.
class FirstError {
 public:
  void set(int rank, std::exception_ptr error);
  bool is_set() const { return error_ != nullptr; }

  /// Throws the error, if there is one.
  void rethrow_if_set() const;
  /// Throws the error with the number of its rank, and forgets it: Colonnade's
  /// own as "rank 1: what it said", those of torch as "what it said (rank 1)",
  /// others as they are. The type stays.
  [[noreturn]] void rethrow_with_rank();

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
  int rank_ = 0;
};

}  // namespace colonnade::detail
