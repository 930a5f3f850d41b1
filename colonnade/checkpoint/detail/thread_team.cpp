// colonnade/checkpoint/detail/thread_team.cpp
#include "colonnade/checkpoint/detail/thread_team.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

namespace colonnade::detail {

void share_work(int64_t count, int threads,
                c10::function_ref<void(int64_t, int)> body) {
  std::atomic<int64_t> next = 0;
  std::atomic_flag failed;
  std::exception_ptr error;
  const auto work = [&](int thread) {
    try {
      for (int64_t i = next++; i < count; i = next++) {
        body(i, thread);
      }
    } catch (...) {
      next = count;
      if (!failed.test_and_set()) {
        error = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int thread = 1; thread < std::min<int64_t>(threads, count); ++thread) {
      helpers.emplace_back(work, thread);
    }
    work(0);
  }
  if (error != nullptr) {
    std::rethrow_exception(error);
  }
}

}  // namespace colonnade::detail
