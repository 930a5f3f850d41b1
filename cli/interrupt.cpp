// cli/interrupt.cpp
#include "cli/interrupt.h"

#include <atomic>
#include <csignal>

namespace colonnade::cli {
namespace {

std::atomic<int> noted{0};
static_assert(std::atomic<int>::is_always_lock_free);

void note(int signal) {
  noted.store(signal, std::memory_order_relaxed);
}

}  // namespace

void catch_interrupts() {
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction action {};
    action.sa_handler = note;
    // The second one finds the default handler, which ends the program.
    action.sa_flags = SA_RESETHAND | SA_RESTART;
    sigaction(signal, &action, nullptr);
  }
}

int interrupt() {
  return noted.load(std::memory_order_relaxed);
}

}  // namespace colonnade::cli
