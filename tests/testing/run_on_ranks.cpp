// tests/testing/run_on_ranks.cpp
#include "tests/testing/run_on_ranks.h"

#include <cstdlib>
#include <string>

namespace colonnade {
namespace {

/// How many ranks run_as_ranks.sh started; 0: it did not.
int processes() {
  const char* const size = std::getenv("COLONNADE_TEST_RANKS");
  return size == nullptr ? 0 : std::atoi(size);
}

int worlds = 0;

}  // namespace

void run_on_threads_or_processes(int n, const std::function<void(int)>& body) {
  if (n != processes()) {
    run_ranks(n, body);
    return;
  }
  // Each world meets in a file of its own.
  const std::string folder = std::getenv("COLONNADE_TEST_MEETING");
  setenv("COLONNADE_RENDEZVOUS",
         (folder + '/' + std::to_string(worlds++)).c_str(), 1);
  setenv("COLONNADE_RANK", std::getenv("COLONNADE_TEST_RANK"), 1);
  setenv("COLONNADE_WORLD_SIZE", std::getenv("COLONNADE_TEST_RANKS"), 1);
  launch(body);
  unsetenv("COLONNADE_WORLD_SIZE");
  unsetenv("COLONNADE_RANK");
}

bool speaks_for_process(int rank) {
  return rank == 0 || std::getenv("COLONNADE_WORLD_SIZE") != nullptr;
}

bool lacks_process_ranks() {
  return processes() > 0 && worlds == 0;
}

}  // namespace colonnade
