// colonnade/launch/detail/process_rank.cpp
#include "colonnade/launch/detail/process_rank.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/neighbors.h"
#include "colonnade/comm/process_rendezvous.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "colonnade/core/log.h"
#include "colonnade/launch/detail/core_shares.h"
#include "colonnade/launch/detail/error_file.h"
#include "colonnade/launch/detail/first_error.h"
#include "colonnade/launch/detail/intra_op_threads.h"
#include "colonnade/launch/detail/termination.h"
#include "colonnade/launch/detail/thread_rank.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

/// How long a process that others read from stays when it is done: those that
/// still want to know why it failed are quick.
constexpr std::chrono::milliseconds kStay = std::chrono::seconds(3);

std::vector<std::string_view> candidates(const std::string& requested) {
  return requested.empty()
             ? std::vector<std::string_view>{"nccl", "shm", "gloo"}
             : std::vector<std::string_view>{requested};
}

const Backend& choose_backend(const LauncherPlace& place,
                              const std::string& requested,
                              const Neighbors& neighbors) {
  if (requested.empty()) {
    if (find_backend("nccl").why_not().empty() &&
        !neighbors.why_not_first.empty()) {
      log(LogLevel::kWarning, concat("launch: the ranks do without nccl, which "
                                     "cannot be used by ",
                                     neighbors.why_not_first));
    }
    return *neighbors.backend;
  }
  const Backend& backend = find_backend(requested);
  check_arg(backend.why_not().empty(), "launch: the backend ", backend.name,
            " cannot be used: ", backend.why_not());
  check_arg(backend.built_in && backend.make_process_world != nullptr,
            "launch: the ranks of ", backend.name, " are threads, and ",
            place.launcher, " started ", place.size,
            " processes; name another backend, or start one process");
  check_arg(neighbors.why_not_first.empty(), "launch: the backend ",
            backend.name, " cannot be used by ", neighbors.why_not_first);
  return backend;
}

std::shared_ptr<Rendezvous> make_rendezvous(const LauncherPlace& place,
                                            std::chrono::milliseconds timeout) {
  const std::string prefix = concat("colonnade/", place.job, '/');
  if (!place.file.empty()) {
    return file_rendezvous(place.file, place.size, prefix);
  }
  return tcp_rendezvous({.host = place.host,
                         .port = place.port,
                         .serve = place.serve,
                         .prefix = prefix},
                        timeout);
}

/// A place of its own to meet for each launch of a process: one that ends does
/// not take the meeting of the next along.
LauncherPlace for_this_launch(LauncherPlace place) {
  static std::atomic<int> launches{0};
  if (const int before = launches++; before > 0) {
    place.job += concat('.', before);
    place.file += place.file.empty() ? "" : concat('.', before);
  }
  return place;
}

/// Keeps the calling thread on a share of its cores.
class PinScope {
 public:
  PinScope(const CoreShares& cores, int share) {
    CPU_ZERO(&previous_);
    sched_getaffinity(0, sizeof(previous_), &previous_);
    cores.pin(share);
  }
  ~PinScope() { sched_setaffinity(0, sizeof(previous_), &previous_); }
  PinScope(const PinScope&) = delete;
  PinScope& operator=(const PinScope&) = delete;

 private:
  cpu_set_t previous_;
};

/// Lets the others read from this process's store, or file, what they want to
/// know.
void stay_for_others(const ProcessPlace& place) noexcept {
  const auto end = std::chrono::steady_clock::now() + kStay;
  try {
    for (int rank = 0; rank < place.size; ++rank) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(
          end - std::chrono::steady_clock::now());
      place.rendezvous->get(concat("done/", rank),
                            std::max(left, std::chrono::milliseconds(0)));
    }
  } catch (const std::exception&) {  // somebody still works, or is gone
  }
}

}  // namespace

void run_process_rank(const LauncherPlace& found,
                      const Environment& environment,
                      const std::function<void(int)>& body,
                      const LaunchOptions& options) {
  check_arg(!inside_rank(),
            "launch: called inside a rank; a rank cannot have ranks of its "
            "own");
  const LauncherPlace launcher = for_this_launch(found);
  const auto variable = [&](const char* name) -> std::string {
    const char* const value = environment(name);
    return value == nullptr ? "" : value;
  };
  FirstError first_error;
  ProcessPlace place{.rank = launcher.rank,
                     .size = launcher.size,
                     .host = host_identity(),
                     .rendezvous = nullptr,
                     .timeout = std::min(options.timeout, kLongestTimeout)};
  place.network = variable("COLONNADE_INTERFACE");
  if (place.network.empty()) {
    place.network = variable("GLOO_SOCKET_IFNAME");
  }
  try {
    place.rendezvous = make_rendezvous(launcher, place.timeout);
    const std::string requested = options.backend.empty()
                                      ? variable("COLONNADE_BACKEND")
                                      : options.backend;
    const Neighbors neighbors = meet_neighbors(place, candidates(requested));
    place.sharing = neighbors.sharing;
    const Backend& backend = choose_backend(launcher, requested, neighbors);
    const CoreShares cores(neighbors.sharing, options.pin);
    log(LogLevel::kInfo,
        concat("launch: rank ", place.rank, " of ", place.size, ", started by ",
               launcher.launcher, ", backend ", backend.name, ", ",
               cores.intra_op_threads(), " of the ", usable_cores(),
               " cores that ", neighbors.sharing, " ranks share"));
    const WorldPtr world = backend.make_process_world(place);
    const PinScope pin(cores, neighbors.index_in_share);
    const IntraOpThreads intra_op(cores.intra_op_threads());
    const auto context = std::make_shared<RankContext>(world);
    const TerminationReport on_sigterm(context, [&](std::string_view text) {
      write_error_file(variable("TORCHELASTIC_ERROR_FILE"), text);
    });
    run_rank(
        context,
        [&] {
          body(place.rank);
          world->leave();
        },
        first_error);
  } catch (...) {  // no world to be had
    first_error.set(place.rank, std::current_exception());
  }

  if (place.rendezvous != nullptr) {
    try {
      place.rendezvous->set(concat("done/", place.rank), "");
    } catch (const std::exception&) {  // whoever kept it has ended
    }
    if (launcher.serve || (launcher.is_own_file && first_error.is_set())) {
      stay_for_others(place);
    }
    place.rendezvous.reset();
    if (launcher.is_own_file && first_error.is_set()) {
      std::error_code ignored;
      std::filesystem::remove(launcher.file, ignored);
    }
  }
  try {
    first_error.rethrow_if_set();
  } catch (const std::exception& error) {
    write_error_file(variable("TORCHELASTIC_ERROR_FILE"), error.what());
    throw;
  }
}

}  // namespace colonnade::detail
