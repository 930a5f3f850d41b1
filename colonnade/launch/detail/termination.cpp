#include "colonnade/launch/detail/termination.h"

#include "colonnade/comm/group.h"
#include "colonnade/core/detail/signals.h"
#include "colonnade/core/error.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

// What the thread is woken for; SIGTERM wins where both come.
constexpr uint64_t kEnd = 1;
constexpr uint64_t kTerminated = uint64_t{1} << 32;

// Read by the signal handler, so they stay.
int wakes = -1;
pid_t watched = 0;

void wake(uint64_t what) {
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(wakes, &what, sizeof(what));
  errno = error;
}

bool has_default_handler() {
  struct sigaction action {};
  return sigaction(SIGTERM, nullptr, &action) == 0 &&
         (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL;
}

void set_handler(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
}

void end_by_sigterm() {
  set_handler(SIG_DFL);
  kill(getpid(), SIGTERM);
}

void on_sigterm(int) {
  if (getpid() == watched) {
    wake(kTerminated);
  } else {  // a fork, which has the handler but not the thread
    end_by_sigterm();
  }
}

void watch(const RankContext& context,
           const std::function<void(std::string_view)>& report) {
  block_signals();
  uint64_t what = 0;
  while (read(wakes, &what, sizeof(what)) < 0 && errno == EINTR) {}
  if (what < kTerminated) {
    return;
  }
  try {
    const std::string text = concat("rank ", context.world()->rank(),
                                    " ended by SIGTERM ", place_of(context));
    // There is nobody left to throw to, so it is printed.
    std::fprintf(stderr, "%s\n", text.c_str());
    report(text);
  } catch (const std::exception&) {  // ends without a word then
  }
  end_by_sigterm();
}

}  // namespace

std::string place_of(const RankContext& context) {
  std::optional<CallRecord> latest;
  const Group* of = nullptr;
  const std::vector<GroupPtr> groups = context.groups_seen_from_outside();
  for (const GroupPtr& group : groups) {
    const std::optional<CallRecord> record = group->calls().peek();
    if (record && (!latest || record->begun_ns >= latest->begun_ns)) {
      latest = record;
      of = group.get();
    }
  }
  return latest ? concat(latest->ended_ns == 0 ? "in " : "after ",
                         of->describe(*latest))
                : "before its first call";
}

TerminationReport::TerminationReport(
    RankContextPtr context, std::function<void(std::string_view)> report) {
  if (!has_default_handler() || (wakes = eventfd(0, EFD_CLOEXEC)) < 0) {
    return;
  }
  installed_ = true;
  watched = getpid();
  thread_ = std::thread([rank = std::move(context), tell = std::move(report)] {
    watch(*rank, tell);
  });
  set_handler(on_sigterm);
}

TerminationReport::~TerminationReport() {
  if (!installed_) {
    return;
  }
  set_handler(SIG_DFL);
  wake(kEnd);
  thread_.join();
  close(std::exchange(wakes, -1));
}

}  // namespace colonnade::detail
