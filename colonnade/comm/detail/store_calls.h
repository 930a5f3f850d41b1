// colonnade/comm/detail/store_calls.h
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <utility>

namespace colonnade::detail {

/// Calls of a c10d store, one after the other, on a thread of their own: where
/// the process that keeps it has been stopped they do not return, and a caller
/// must not wait for ever.
class StoreCalls {
 public:
  /// How long a keeper may take to answer one who has no time.
  static constexpr std::chrono::milliseconds kAnswer{1000};

  explicit StoreCalls(c10::intrusive_ptr<c10d::Store> store);
  /// Gives up calls that have not begun, and leaves one that does not return
  /// within `kAnswer` to itself.
  ~StoreCalls();
  StoreCalls(const StoreCalls&) = delete;
  StoreCalls& operator=(const StoreCalls&) = delete;

  /// What `call` returns, or throws; nothing where it has not within
  /// `patience`. It may still be made then, so it keeps what it needs.
  template <typename Result>
  std::optional<Result> make(std::function<Result(c10d::Store&)> call,
                             std::chrono::milliseconds patience) {
    auto task = std::make_shared<std::packaged_task<Result(c10d::Store&)>>(
        std::move(call));
    std::future<Result> result = task->get_future();
    post([task](c10d::Store& store) { (*task)(store); });
    if (result.wait_for(patience) != std::future_status::ready) {
      return std::nullopt;
    }
    return result.get();
  }

 private:
  struct Queue;

  void post(std::function<void(c10d::Store&)> call);

  std::shared_ptr<Queue> queue_;
};

}  // namespace colonnade::detail
