// tests/memory/caching_allocator_test.cpp
#include "colonnade/memory/caching_allocator.h"

#include "colonnade/core/error.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace colonnade {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

at::Tensor bytes_tensor(int64_t bytes) {
  return at::empty({bytes}, at::kByte);
}

class CachingAllocatorTest : public testing::Test {
 protected:
  void SetUp() override {
    install_caching_allocator();
    reset_thread_memory_peak();
  }
  void TearDown() override { remove_caching_allocator(); }
};

TEST_F(CachingAllocatorTest, AFreedBlockServesTheNextTensorOfItsSize) {
  for (const int64_t bytes : {int64_t{100'000}, kMiB, 5 * kMiB}) {
    const void* first = bytes_tensor(bytes).data_ptr();
    const at::Tensor second = bytes_tensor(bytes - 100);
    EXPECT_EQ(second.data_ptr(), first) << bytes;
    EXPECT_NE(bytes_tensor(bytes).data_ptr(), first) << bytes;
  }
}

TEST_F(CachingAllocatorTest, MemoryIsAlignedTo64Bytes) {
  for (const int64_t bytes : {1, 63, 1000, 65535, 65536, 100'000, 3'000'000}) {
    const at::Tensor x = bytes_tensor(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data_ptr()) % 64, 0u) << bytes;
  }
  EXPECT_EQ(bytes_tensor(0).numel(), 0);
}

TEST_F(CachingAllocatorTest, LargeMemoryFillsWholeHugePages) {
  for (const int64_t bytes : {2 * kMiB, 5 * kMiB, 16 * kMiB}) {
    const at::Tensor x = bytes_tensor(bytes).fill_(1);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data_ptr()) % (2 * kMiB), 0u);
  }
}

TEST_F(CachingAllocatorTest, CountsWhatItsThreadUses) {
  const int64_t before = thread_memory_use().in_use_bytes;
  {
    const at::Tensor large = bytes_tensor(2 * kMiB);
    const at::Tensor small = bytes_tensor(100);
    EXPECT_EQ(thread_memory_use().in_use_bytes - before, 2 * kMiB + 100);
    std::thread([] {
      EXPECT_EQ(thread_memory_use().in_use_bytes, 0);
      bytes_tensor(3 * kMiB);
      EXPECT_EQ(thread_memory_use().in_use_bytes, 0);
      EXPECT_EQ(thread_memory_use().peak_bytes, 3 * kMiB);
    }).join();
    bytes_tensor(kMiB);
  }
  EXPECT_EQ(thread_memory_use().in_use_bytes, before);
  EXPECT_EQ(thread_memory_use().peak_bytes - before, 3 * kMiB + 100);
  reset_thread_memory_peak();
  EXPECT_EQ(thread_memory_use().peak_bytes, before);
}

TEST_F(CachingAllocatorTest, ABlockFreedElsewhereComesBackToItsThread) {
  at::Tensor x = bytes_tensor(kMiB);
  const void* address = x.data_ptr();
  const int64_t before = thread_memory_use().in_use_bytes;
  std::thread([&] { x.reset(); }).join();
  EXPECT_EQ(thread_memory_use().in_use_bytes, before - kMiB);
  EXPECT_EQ(bytes_tensor(kMiB).data_ptr(), address);
}

TEST_F(CachingAllocatorTest, ThreadsThatEndLeaveTheirBlocksToTheNext) {
  const auto generation = [] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([] {
        const at::Tensor a = bytes_tensor(kMiB);
        const at::Tensor b = bytes_tensor(7 * kMiB);
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  };
  for (int i = 0; i < 20; ++i) {
    generation();
    // Three threads at a time never need more than three of each.
    ASSERT_LE(kept_memory_bytes(), 3 * 8 * kMiB) << "generation " << i;
    ASSERT_GE(kept_memory_bytes(), 8 * kMiB);
  }
}

TEST_F(CachingAllocatorTest, ATensorOutlivesItsThread) {
  at::Tensor x;
  std::thread([&] { x = at::full({kMiB}, 7, at::kByte); }).join();
  std::thread([] { bytes_tensor(kMiB).fill_(1); }).join();
  EXPECT_TRUE(x.eq(7).all().item<bool>());
}

TEST_F(CachingAllocatorTest, KeepsNoMoreThanItsLimit) {
  release_kept_memory();
  install_caching_allocator({.max_kept_bytes = 5 * kMiB});
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 10; ++i) {
    tensors.push_back(bytes_tensor(2 * kMiB));
  }
  tensors.clear();
  EXPECT_EQ(kept_memory_bytes(), 4 * kMiB);
}

TEST_F(CachingAllocatorTest, ReleaseReachesOtherThreadsAtTheirNextCall) {
  release_kept_memory();
  std::promise<void> kept, released, done;
  std::thread other([&] {
    bytes_tensor(4 * kMiB);
    kept.set_value();
    released.get_future().wait();
    bytes_tensor(kMiB);
    done.set_value();
  });
  kept.get_future().wait();
  bytes_tensor(2 * kMiB);
  EXPECT_EQ(kept_memory_bytes(), 6 * kMiB);
  release_kept_memory();
  EXPECT_EQ(kept_memory_bytes(), 4 * kMiB);
  released.set_value();
  done.get_future().wait();
  EXPECT_EQ(kept_memory_bytes(), kMiB);
  other.join();
  release_kept_memory();
  EXPECT_EQ(kept_memory_bytes(), 0);
}

TEST_F(CachingAllocatorTest, RemovingItLeavesTensorsAlive) {
  const at::Tensor x = at::full({kMiB}, 3, at::kByte);
  remove_caching_allocator();
  EXPECT_TRUE(x.eq(3).all().item<bool>());
  EXPECT_EQ(kept_memory_bytes(), 0);
  const int64_t before = thread_memory_use().in_use_bytes;
  const at::Tensor uncounted = bytes_tensor(kMiB);
  EXPECT_EQ(thread_memory_use().in_use_bytes, before);
  install_caching_allocator();
}

TEST_F(CachingAllocatorTest, SaysWhatItCannotDo) {
  try {
    install_caching_allocator({.max_kept_bytes = -1});
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("install_caching_allocator: max_kept_bytes "
                                   "is -1; give a number of bytes"));
  }
  try {
    bytes_tensor(int64_t{1} << 60);
    FAIL();
  } catch (const c10::OutOfMemoryError& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("CachingAllocator: no memory for a tensor "
                                   "of 1152921504606846976 bytes"));
  }
}

/// Hands tensors from any thread to any other.
class Exchange {
 public:
  void put(at::Tensor x) {
    const std::lock_guard lock(mutex_);
    tensors_.push_back(std::move(x));
  }
  at::Tensor take() {
    const std::lock_guard lock(mutex_);
    if (tensors_.empty()) {
      return {};
    }
    at::Tensor x = std::move(tensors_.front());
    tensors_.pop_front();
    return x;
  }

 private:
  std::mutex mutex_;
  std::deque<at::Tensor> tensors_;
};

TEST_F(CachingAllocatorTest, NoTwoTensorsShareABlock) {
  Exchange exchange;
  const auto work = [&](int64_t seed) {
    for (int64_t i = 0; i < 300; ++i) {
      const int64_t size = 5'000 + (seed * 7919 + i * 104'729) % 100'000;
      exchange.put(at::full({size}, size, at::kInt));
      const at::Tensor x = exchange.take();
      if (x.defined() && i % 3 != 0) {
        ASSERT_TRUE(x.eq(x.numel()).all().item<bool>());
      } else if (x.defined()) {
        exchange.put(x);
      }
      if (i % 100 == 0) {
        release_kept_memory();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int seed = 0; seed < 4; ++seed) {
    threads.emplace_back(work, seed);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST_F(CachingAllocatorTest, AddressSanitizerSeesUseOfAFreedTensor) {
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(
      {
        auto* data = bytes_tensor(kMiB).data_ptr<uint8_t>();
        data[5] = 1;
      },
      "use-after-poison");
#else
  GTEST_SKIP() << "needs AddressSanitizer";
#endif
}

}  // namespace
}  // namespace colonnade
