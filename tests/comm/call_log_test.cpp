#include "colonnade/comm/call_log.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/group.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/world_group.h"
#include "tests/testing/error_of.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade {
namespace {

TEST(CallSite, NamesTheInnermostScope) {
  EXPECT_TRUE(CallSite::current().empty());
  {
    const CallSiteScope outer(CallSite("train"));
    {
      const CallSiteScope inner(CallSite("layer down").in_backward());
      EXPECT_EQ(CallSite::current().text(), "layer down");
      EXPECT_TRUE(CallSite::current().is_backward());
    }
    EXPECT_EQ(CallSite::current().text(), "train");
    EXPECT_FALSE(CallSite::current().is_backward());
  }
  EXPECT_TRUE(CallSite::current().empty());
}

TEST(CallSite, KeepsTheEndOfALongText) {
  std::string text(62, 'x');
  EXPECT_EQ(CallSite(text).text(), text);
  text.append(38, 'x').append(".down");
  EXPECT_EQ(CallSite(text).text(), "..." + text.substr(text.size() - 59));
}

TEST(CallLog, KeepsTheLastCalls) {
  run_ranks(2, [](int rank) {
    const GroupPtr group = make_world_group();
    at::Tensor x = at::ones({3}, at::kDouble);
    {
      const CallSiteScope site(CallSite("layer up"));
      group->all_reduce(x);
    }
    rank == 0 ? group->send(x, 1) : group->recv(x, 0);
    group->barrier();
    const std::vector<CallRecord> records = group->calls().records();
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(to_string(records[0].call),
              "all_reduce(float64 [3], sum) by layer up");
    EXPECT_EQ(records[0].number, 1U);
    EXPECT_EQ(to_string(records[1].call), rank == 0
                                              ? "send(float64 [3], dst 1)"
                                              : "recv(float64 [3], src 0)");
    EXPECT_EQ(records[1].number, 1U);  // counted by themselves
    EXPECT_EQ(to_string(records[2].call), "barrier()");
    EXPECT_EQ(records[2].number, 2U);
    for (const CallRecord& record : records) {
      EXPECT_GE(record.ended_ns, record.begun_ns);
      EXPECT_GT(record.begun_ns, 0);
    }
  });
}

TEST(CallLog, ForgetsTheFirst) {
  const int64_t calls = CallLog::kCapacity + 10;
  run_ranks(1, [&](int) {
    const GroupPtr group = make_world_group();
    for (int64_t i = 0; i < calls; ++i) {
      group->barrier();
    }
    const std::vector<CallRecord> records = group->calls().records();
    ASSERT_EQ(records.size(), CallLog::kCapacity);
    EXPECT_EQ(records.front().number, 11U);
    EXPECT_EQ(records.back().number, static_cast<uint64_t>(calls));
  });
}

TEST(CallLog, ShowsACallThatFailed) {
  run_ranks(2, [](int rank) {
    const GroupPtr group = make_world_group();
    if (rank == 0) {
      error_of<CommError>([&] { group->barrier(); });
      EXPECT_EQ(group->calls().latest().ended_ns, 0);
    }
  });
}

}  // namespace
}  // namespace colonnade
