// colonnade/launch/detail/thread_rank.cpp
#include "colonnade/launch/detail/thread_rank.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/call_dump.h"
#include "colonnade/comm/detail/nccl_backend.h"
#include "colonnade/core/error.h"
#include "colonnade/core/log.h"
#include "colonnade/core/settings.h"
#include "colonnade/random/rank_random.h"

#include <algorithm>
#include <exception>
#include <string_view>

namespace colonnade::detail {
namespace {

thread_local bool is_inside_rank = false;

class InsideRankScope {
 public:
  InsideRankScope() { is_inside_rank = true; }
  ~InsideRankScope() { is_inside_rank = false; }
  InsideRankScope(const InsideRankScope&) = delete;
  InsideRankScope& operator=(const InsideRankScope&) = delete;
};

/// Where the user has asked for it.
void dump_calls_of(const RankContextPtr& context) noexcept {
  if (settings().call_dump.empty()) {
    return;
  }
  const RankContextScope scope(context);
  try {
    dump_calls(concat(settings().call_dump, context->world()->rank()));
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, error.what());
  }
}

/// Whether thread ranks can have a device each, for tensors there.
bool nccl_fits(int n) {
  return cuda_devices() >= n && find_backend("nccl").why_not().empty();
}

}  // namespace

bool inside_rank() {
  return is_inside_rank;
}

std::vector<WorldPtr> make_local_worlds(std::string_view subject, int n,
                                        const LaunchOptions& options) {
  check_arg(n >= 1, subject, ": the number of ranks is ", n,
            "; it must be at least 1");
  const Backend& backend =
      find_backend(!options.backend.empty() ? options.backend
                   : n == 1                 ? "self"
                   : nccl_fits(n)           ? "nccl"
                                            : "threads");
  check_arg(backend.built_in && backend.why_not().empty(), subject,
            ": the backend ", backend.name,
            " cannot be used: ", backend.why_not());
  check_arg(backend.make_local_worlds != nullptr, subject, ": the ranks of ",
            backend.name, " are processes; use launch");
  return backend.make_local_worlds(n,
                                   std::min(options.timeout, kLongestTimeout));
}

void run_rank(const RankContextPtr& context, c10::function_ref<void()> body,
              FirstError& first_error) noexcept {
  const InsideRankScope inside;
  World* const world = context->world().get();  // kept by the context
  // An error is recorded before the others hear of it: theirs come later.
  const auto fail = [&](std::string_view message) {
    first_error.set(world->rank(), std::current_exception());
    world->abort(message);
    dump_calls_of(context);
  };
  try {
    const RankContextScope context_scope(context);
    const RankRandomScope random;
    body();
  } catch (const std::exception& error) {
    fail(error.what());
  } catch (...) {
    fail("an exception that is no std::exception");
  }
}

}  // namespace colonnade::detail
