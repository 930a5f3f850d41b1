// tests/comm/stopped_store_test.cpp
#include "colonnade/comm/process_rendezvous.h"
#include "colonnade/core/error.h"

#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace colonnade {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

/// Answers nothing while its keeper is stopped.
class StoppableStore final : public c10d::Store {
 public:
  void set(const std::string& key, const std::vector<uint8_t>& value) override {
    wait_while_stopped();
    keys_.push_back(key);
    value_ = value;
  }
  std::vector<uint8_t> get(const std::string&) override { return value_; }
  bool check(const std::vector<std::string>& keys) override {
    wait_while_stopped();
    return std::find(keys_.begin(), keys_.end(), keys.front()) != keys_.end();
  }

  c10::intrusive_ptr<Store> clone() override { return nullptr; }
  int64_t add(const std::string&, int64_t) override { return 0; }
  bool deleteKey(const std::string&) override { return false; }
  int64_t getNumKeys() override { return 0; }
  void wait(const std::vector<std::string>&) override {}
  void wait(const std::vector<std::string>&,
            const std::chrono::milliseconds&) override {}

  std::atomic<bool> is_stopped = false;

 private:
  void wait_while_stopped() const {
    while (is_stopped) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::vector<std::string> keys_;
  std::vector<uint8_t> value_;
};

std::string error_of_get(Rendezvous& rendezvous, const std::string& name) {
  try {
    rendezvous.get(name, std::chrono::milliseconds(0));
  } catch (const CommError& error) {
    return error.what();
  }
  return {};
}

TEST(StoppedStore, NobodyWaitsForIt) {
  const auto store = c10::make_intrusive<StoppableStore>();
  auto rendezvous = store_rendezvous(store);
  rendezvous->set("name", "value");
  EXPECT_EQ(rendezvous->get("name", std::chrono::seconds(9)), "value");

  store->is_stopped = true;
  const auto start = Clock::now();
  EXPECT_THAT(error_of_get(*rendezvous, "name"),
              HasSubstr("\"name\" cannot be had at torch.distributed's store: "
                        "there is no answer; the process that keeps it may "
                        "have ended or been stopped"));
  // Once it has not answered, those without time do not wait at all.
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(error_of_get(*rendezvous, "name"), HasSubstr("no answer"));
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(30));

  store->is_stopped = false;
  EXPECT_EQ(rendezvous->get("name", std::chrono::seconds(9)), "value");
}

TEST(StoppedStore, IsLetGoOfWithTheRendezvousWhileItAnswers) {
  const auto store = c10::make_intrusive<StoppableStore>();
  for (int i = 0; i < 300; ++i) {
    store_rendezvous(store)->set(std::to_string(i), "value");
    ASSERT_EQ(store.use_count(), 1) << "after " << i;
  }
}

TEST(StoppedStore, CanBeLetGoOf) {
  const auto store = c10::make_intrusive<StoppableStore>();
  auto rendezvous = store_rendezvous(store);
  store->is_stopped = true;
  EXPECT_THAT(error_of_get(*rendezvous, "name"), HasSubstr("no answer"));
  rendezvous = nullptr;
  store->is_stopped = false;
}

}  // namespace
}  // namespace colonnade
