#include "colonnade/launch/detail/termination.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string_view>

namespace colonnade::detail {
namespace {

RankContextPtr empty_context() {
  return std::make_shared<RankContext>(nullptr);
}

void report_nothing(std::string_view) {}

bool has_default_handler() {
  struct sigaction action {};
  sigaction(SIGTERM, nullptr, &action);
  return action.sa_handler == SIG_DFL;
}

TEST(TerminationReport, LeavesAForkItsOwnEnd) {
  bool is_told = false;
  {
    const TerminationReport report(empty_context(),
                                   [&](std::string_view) { is_told = true; });
    EXPECT_FALSE(has_default_handler());
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);
      for (;;) {
        pause();
      }
    }
    kill(child, SIGTERM);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGTERM);
  }
  EXPECT_FALSE(is_told);
  EXPECT_TRUE(has_default_handler());
}

TEST(TerminationReport, StaysAwayWhereTheProcessCanOpenNoFile) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  {
    const TerminationReport report(empty_context(), report_nothing);
    setrlimit(RLIMIT_NOFILE, &before);
    EXPECT_TRUE(has_default_handler());
  }
  EXPECT_TRUE(has_default_handler());
}

}  // namespace
}  // namespace colonnade::detail
