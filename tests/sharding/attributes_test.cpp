// tests/sharding/attributes_test.cpp
#include "colonnade/sharding/attributes.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/sharding.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/linear.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using testing::StrEq;
using testing::ThrowsMessage;

TensorParallelAttributes attributes(int64_t rank = 0) {
  return {ShardSpec::even(0, 8, rank, 2), "tp"};
}

TEST(Attributes, AreFoundOnTheTensorTheyWereSetOn) {
  const at::Tensor x = at::zeros({4, 3}), y = at::zeros({4, 3});
  EXPECT_EQ(get_tensor_parallel_attributes(x), std::nullopt);
  set_tensor_parallel_attributes(x, attributes());
  const at::Tensor same = x;
  EXPECT_EQ(get_tensor_parallel_attributes(same), attributes());
  EXPECT_EQ(get_tensor_parallel_attributes(y), std::nullopt);
  set_tensor_parallel_attributes(x, attributes(1));
  EXPECT_EQ(get_tensor_parallel_attributes(x), attributes(1));
  EXPECT_EQ(get_tensor_parallel_attributes(at::Tensor()), std::nullopt);
}

TEST(Attributes, StayWithIdentityAndGoWithACopy) {
  torch::nn::Linear linear(3, 4);
  const at::Tensor& weight = linear->weight;
  set_tensor_parallel_attributes(weight, attributes());
  linear->to(at::kDouble);
  weight.requires_grad_(false);
  weight.set_data(at::ones({4, 3}));
  EXPECT_EQ(get_tensor_parallel_attributes(linear->weight), attributes());
  EXPECT_EQ(get_tensor_parallel_attributes(linear->parameters()[0]),
            attributes());
  EXPECT_EQ(get_tensor_parallel_attributes(weight.detach()), std::nullopt);
  EXPECT_EQ(get_tensor_parallel_attributes(weight.clone()), std::nullopt);
}

TEST(Attributes, AreCopiedAlsoWhereThereAreNone) {
  const at::Tensor from = at::zeros({4}), to = at::zeros({4}),
                   none = at::zeros({4});
  set_tensor_parallel_attributes(from, attributes());
  copy_tensor_parallel_attributes(to, from);
  EXPECT_EQ(get_tensor_parallel_attributes(to), attributes());
  copy_tensor_parallel_attributes(to, none);
  EXPECT_EQ(get_tensor_parallel_attributes(to), std::nullopt);
}

TEST(Attributes, RefuseWhatDoesNotFit) {
  EXPECT_THAT(
      [] { set_tensor_parallel_attributes(at::Tensor(), attributes()); },
      ThrowsMessage<InvalidArgument>(
          StrEq("set_tensor_parallel_attributes: the tensor is undefined; set "
                "attributes after it is made")));
  EXPECT_THAT(
      [] {
        set_tensor_parallel_attributes(at::zeros({4}),
                                       {ShardSpec::even(0, 8, 0, 2), ""});
      },
      ThrowsMessage<InvalidArgument>(
          StrEq("set_tensor_parallel_attributes: the group's name is empty; "
                "name a group such as \"tp\"")));
  const at::Tensor x = at::zeros({5});
  EXPECT_THAT([&] { set_tensor_parallel_attributes(x, attributes()); },
              ThrowsMessage<InvalidArgument>(
                  StrEq("set_tensor_parallel_attributes: shard [5] does not "
                        "have local_size 4 at dim 0 (dim 0, [0, 4) of 8)")));
  EXPECT_EQ(get_tensor_parallel_attributes(x), std::nullopt);
}

TEST(Attributes, DoNotKeepATensorsMemory) {
  at::Tensor x = at::zeros({4});
  set_tensor_parallel_attributes(x, attributes());
  EXPECT_EQ(x.use_count(), 1u);
  const c10::weak_intrusive_ptr<c10::StorageImpl> storage(
      x.storage().getWeakStorageImpl());
  x.reset();
  EXPECT_TRUE(storage.expired());
}

TEST(Attributes, NeverPassToATensorAtAUsedAddress) {
  for (int i = 0; i < 2000; ++i) {
    at::Tensor x = at::zeros({4});
    ASSERT_EQ(get_tensor_parallel_attributes(x), std::nullopt) << i;
    set_tensor_parallel_attributes(x, attributes());
  }
}

TEST(Attributes, AreSetAndFoundByManyThreads) {
  const at::Tensor shared = at::zeros({4});
  set_tensor_parallel_attributes(shared, attributes());
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      std::vector<at::Tensor> kept;
      for (int i = 0; i < 500; ++i) {
        const at::Tensor x = at::zeros({4});
        set_tensor_parallel_attributes(x, attributes(rank % 2));
        EXPECT_EQ(get_tensor_parallel_attributes(x), attributes(rank % 2));
        EXPECT_EQ(get_tensor_parallel_attributes(shared), attributes());
        if (i % 5 == 0) {
          kept.push_back(x);
        }
      }
      for (const at::Tensor& x : kept) {
        EXPECT_EQ(get_tensor_parallel_attributes(x), attributes(rank % 2));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(Attributes, HaveTheNamesOfTheLayersNamespace) {
  const at::Tensor x = at::zeros({4}), y = at::zeros({4});
  parallel_layers::set_tensor_parallel_attributes(x, attributes());
  parallel_layers::copy_tensor_parallel_attributes(y, x);
  EXPECT_EQ(parallel_layers::get_tensor_parallel_attributes(y), attributes());
}

}  // namespace
}  // namespace colonnade
