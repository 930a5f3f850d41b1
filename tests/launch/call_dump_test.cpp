#include "colonnade/comm/call_dump.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/core/error.h"
#include "colonnade/core/settings.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/testing/error_of.h"
#include "tests/testing/shell.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>

namespace colonnade {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Ranks that fail leave their calls in a folder meanwhile.
class CallDump : public testing::Test {
 protected:
  CallDump() { settings().call_dump = folder_.path() / "calls_"; }
  ~CallDump() override { settings().call_dump.clear(); }

  /// What PyTorch's analyser says of two ranks that each make the same calls,
  /// then `last`.
  std::string analysis_of(
      const std::function<void(int rank, Group& group)>& last) const {
    error_of<Error>([&] {
      run_ranks(2, [&](int rank) {
        parallel_state::initialize_model_parallel(2);
        const GroupPtr group =
            parallel_state::get_tensor_model_parallel_group();
        at::Tensor x = at::ones({2, 3});
        at::Tensor all = at::empty({4, 3});
        at::Tensor part = at::empty({3});
        group->all_reduce(x);
        group->all_gather(all, x);
        group->reduce_scatter(part, x);
        group->broadcast(x, 1);
        group->all_to_all(all, all.clone());
        rank == 0 ? group->send(x, 1) : group->recv(x, 0);
        group->barrier();
        const CallSiteScope site(CallSite("layer down"));
        last(rank, *group);
      });
    });
    return analyse();
  }

 private:
  std::string analyse() const {
    const ShellResult result = shell(concat(
        ANALYSE_CALLS, ' ', folder_.path().string(), " --print_stack_trace"));
    EXPECT_TRUE(result.good) << result.out;
    return result.out;
  }

  TemporaryFolder folder_;
};

TEST_F(CallDump, PyTorchsAnalyserFindsAShapeThatDiffers) {
  const std::string text = analysis_of([](int rank, Group& group) {
    at::Tensor x = at::ones({rank == 0 ? 5 : 7});
    group.all_reduce(x);
  });
  EXPECT_THAT(text,
              AllOf(HasSubstr("SIZE_OR_SYNTAX_MISMATCH"),
                    HasSubstr("collective: nccl:all_reduce"),
                    HasSubstr("Expected input sizes: "), HasSubstr("[[5]]"),
                    HasSubstr("[[7]]"), HasSubstr("layer down")));
}

TEST_F(CallDump, PyTorchsAnalyserFindsARankThatDidNotCome) {
  const std::string text = analysis_of([](int rank, Group& group) {
    if (rank == 1) {
      throw Error("the cause");
    }
    group.barrier();
  });
  EXPECT_THAT(text, AllOf(HasSubstr("missing ranks: {1}"),
                          HasSubstr("collective: nccl:all_reduce_barrier"),
                          HasSubstr("collective state: started")));
}

TEST_F(CallDump, AFolderThatIsMissingIsAnError) {
  run_ranks(1, [](int) {
    EXPECT_EQ(error_of<CommError>([] { dump_calls("/no/such/folder/calls"); }),
              "dump_calls: cannot write /no/such/folder/calls: No such file or "
              "directory; name a file in a folder that exists");
  });
}

}  // namespace
}  // namespace colonnade
