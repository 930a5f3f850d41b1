// colonnade/launch/detail/intra_op_threads.cpp
#include "colonnade/launch/detail/intra_op_threads.h"

#include <ATen/Parallel.h>

// at::set_num_threads (35 ns) also sets what every thread begins with that
// meets torch later: a server's next thread would keep the count of a rank. Its
// two parts that are for one thread are called here. OpenMP is a library that
// libtorch_cpu needs, MKL is inside of it; null where a torch has them not.
extern "C" {
[[gnu::weak]] void omp_set_num_threads(int n);
[[gnu::weak]] int MKL_Set_Num_Threads_Local(int n);
}

namespace colonnade::detail {
namespace {

/// Returns  what was set for MKL on this thread; 0: nothing, it follows OpenMP
int set_threads(int n, int n_of_mkl) {
  if (omp_set_num_threads == nullptr) {  // a torch without OpenMP
    at::set_num_threads(n);
    return 0;
  }
  omp_set_num_threads(n);
  return MKL_Set_Num_Threads_Local == nullptr
             ? 0
             : MKL_Set_Num_Threads_Local(n_of_mkl);
}

}  // namespace

IntraOpThreads::IntraOpThreads(int n)
    : previous_(at::get_num_threads()), previous_of_mkl_(previous_) {
  if (previous_ != n) {
    previous_of_mkl_ = set_threads(n, n);
  }
}

IntraOpThreads::~IntraOpThreads() {
  if (at::get_num_threads() != previous_) {
    set_threads(previous_, previous_of_mkl_);
  }
}

}  // namespace colonnade::detail
