// tests/comm/nccl_device_test.cpp
//
// On devices, where there are two.
#include "colonnade/comm/backend.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "tests/comm/check_collectives.h"
#include "tests/comm/world_group.h"

#include <ATen/ATen.h>

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade {
namespace {

constexpr int kRanks = 2;

at::Device device_of(int rank) {
  return {at::kCUDA, static_cast<at::DeviceIndex>(rank)};
}

class NcclDevices : public testing::Test {
 protected:
  void SetUp() override {
    // Nothing else of this program needs it, and it may not be installed whole.
    static const bool is_loaded =
        dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;
    static const std::string error = is_loaded ? "" : dlerror();
    if (!is_loaded) {
      GTEST_SKIP() << error;
    }
    const std::string why_not = find_backend("nccl").why_not();
    if (!why_not.empty()) {
      GTEST_SKIP() << why_not;
    }
    if (at::detail::getCUDAHooks().deviceCount() < kRanks) {
      GTEST_SKIP() << "there are fewer than " << kRanks << " CUDA devices";
    }
  }

  template <typename Body>
  static void on_devices(Body body) {
    run_ranks(kRanks, body, {.backend = "nccl"});
  }
};

TEST_F(NcclDevices, CollectivesMatchOneThread) {
  on_devices([](int rank) {
    const GroupPtr group = make_world_group();
    for (const at::ScalarType dtype :
         {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong,
          at::kInt, at::kByte, at::kChar, at::kBool}) {
      for (const int64_t n : {0, 1, 7, 4097, (1 << 20) + 3}) {
        check_collectives(*group, n, dtype, device_of(rank), /*bits=*/false);
        check_collectives(*group, n % 5000, dtype);  // the same on the host
      }
    }
  });
}

TEST_F(NcclDevices, TensorsStayOnTheDeviceOfTheFirst) {
  on_devices([](int rank) {
    const GroupPtr group = make_world_group();
    at::Tensor x = at::zeros({2}, device_of(rank));
    group->all_reduce(x);
    at::Tensor other = at::zeros({2}, device_of(1 - rank));
    EXPECT_THROW(group->all_reduce(other), InvalidArgument);
    group->all_reduce(x);
  });
}

TEST_F(NcclDevices, LayersMatchTheCpu) {
  on_devices([](int rank) {
    parallel_state::initialize_model_parallel(kRanks);
    const auto step = [&](at::Device device) {
      manual_seed(1);
      parallel_layers::ColumnParallelLinear up(
          parallel_layers::ColumnParallelLinearOptions(8, 12).gather_output(
              false));
      parallel_layers::RowParallelLinear down(
          parallel_layers::RowParallelLinearOptions(12, 8).input_is_parallel(
              true));
      up->to(device);
      down->to(device);
      const at::Tensor x =
          at::arange(32, at::kFloat).view({4, 8}).sin().to(device);
      const at::Tensor y = down(up(x).relu());
      y.square().sum().backward();
      return std::vector<at::Tensor>{y.detach().cpu(), up->weight.grad().cpu(),
                                     down->weight.grad().cpu()};
    };
    const auto want = step(at::kCPU);
    const auto got = step(device_of(rank));
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_TRUE(at::allclose(got[i], want[i], 1e-4, 1e-4)) << i;
    }
  });
}

TEST_F(NcclDevices, ARankThatThrowsWakesTheOthers) {
  std::string text;
  EXPECT_THROW(on_devices([&](int rank) {
                 const GroupPtr group = make_world_group();
                 at::Tensor x = at::zeros({2}, device_of(rank));
                 group->all_reduce(x);
                 check<Error>(rank != 1, "tired");
                 try {
                   group->all_reduce(x);
                 } catch (const CommError& error) {
                   text = error.what();
                 }
               }),
               Error);
  EXPECT_THAT(text, testing::HasSubstr("rank 1 failed: tired"));
}

}  // namespace
}  // namespace colonnade
