// tests/parallel_layers/save_failure_test.cpp
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"
#include "tests/parallel_layers/hand_model.h"
#include "tests/parallel_layers/tensor_parallel_ranks.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <torch/torch.h>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
namespace pl = parallel_layers;
using testing::HasSubstr;

void save_seed(const fs::path& folder, int64_t seed) {
  StateDict state;
  state["model"] = state_dict(HandModel(seed));
  pl::save(state, folder);
}

void expect_loads(const fs::path& folder, int64_t seed) {
  HandModel model(99);
  pl::load(folder, model);
  expect_weights(model, HandModel(seed));
}

TEST(SaveFailure, LeavesTheCheckpointBeforeIt) {
  const TemporaryFolder folder;
  run_tensor_parallel(1, [&] { save_seed(folder.path(), 1); });
  const auto before = folder.files();

  // The second rank cannot write: its folder's name is taken by a file.
  folder.write("tp_rank_1", "in the way");
  run_tensor_parallel(2, [&] {
    EXPECT_THAT(error_of<CheckpointError>([&] { save_seed(folder.path(), 2); }),
                HasSubstr("on rank 1: " + folder.path().string() +
                          "/tp_rank_1: the folder cannot be made: "));
    expect_loads(folder.path(), 1);
  });
  fs::remove(folder.path() / "tp_rank_1");
  EXPECT_EQ(folder.files(), before);  // nothing is left of the failed one

  // The commit fails: a folder stands where the manifest would be.
  const TemporaryFolder blocked;
  fs::create_directories(blocked.path() / "manifest.json" / "x");
  run_tensor_parallel(2, [&] {
    EXPECT_THAT(
        error_of<CheckpointError>([&] { save_seed(blocked.path(), 2); }),
        HasSubstr("/manifest.json: cannot be replaced: "));
  });

  // There is no place at all: a file where the folder would be.
  const fs::path file = folder.write("file", "");
  run_tensor_parallel(2, [&] {
    EXPECT_THAT(error_of<CheckpointError>([&] { save_seed(file, 2); }),
                HasSubstr("/file: the folder cannot be made"));
  });
}

/// Lets no file of this process grow beyond `bytes`, as if the disk were full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST(SaveFailure, WriteThatStopsMidwayLeavesNothing) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] { save_seed(folder.path(), 1); });
  const auto before = folder.files();
  size_t largest = 0;
  for (const auto& [name, bytes] : before) {
    largest = std::max(largest, bytes.size());
  }
  ASSERT_EQ(before.at("manifest.json").size(), largest);
  // First within the ranks' files, then within the manifest.
  for (const size_t limit : {size_t{300}, largest - 1}) {
    const FileSizeLimit full(limit);
    run_tensor_parallel(2, [&] {
      EXPECT_THAT(
          error_of<CheckpointError>([&] { save_seed(folder.path(), 2); }),
          HasSubstr("cannot be written: File too large"));
    });
    EXPECT_EQ(folder.files(), before) << limit;
  }
  run_tensor_parallel(3, [&] { expect_loads(folder.path(), 1); });
}

TEST(SaveFailure, AttachmentThatCannotBeWrittenLeavesNothing) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] { save_seed(folder.path(), 1); });
  const auto before = folder.files();
  const std::vector<detail::Attachment> attachments = {
      {"first.json", "fits"}, {"graph.json", std::string(100'000, 'x')}};
  const FileSizeLimit full(50'000);
  run_tensor_parallel(2, [&] {
    EXPECT_THAT(error_of<CheckpointError>([&] {
                  detail::save_checkpoint(state_dict(HandModel(2)),
                                          folder.path(), attachments);
                }),
                HasSubstr(".graph.json: cannot be written: File too large"));
    expect_loads(folder.path(), 1);
  });
  EXPECT_EQ(folder.files(), before);
}

TEST(SaveFailure, NextSaveRemovesLeftoversAndNothingElse) {
  const TemporaryFolder folder;
  const fs::path& root = folder.path();
  run_tensor_parallel(4, [&] {
    StateDict state;
    state["model"] = state_dict(HandModel(1));
    detail::save_checkpoint(
        state, root, std::vector<detail::Attachment>{{"graph.json", "old"}});
  });
  EXPECT_EQ(folder.files().size(), 6);

  const std::string dead = "20200101T000000-0123456789abcdef";
  const std::string alive = "20200101T000000-fedcba9876543210";
  folder.write("tp_rank_0/" + dead + ".safetensors", "died while writing");
  folder.write(dead + ".graph.json", "died while writing");
  folder.write("manifest.json." + dead, "died before the commit");
  folder.write(dead + ".saving", "its claim");
  folder.write("tp_rank_0/" + alive + ".safetensors", "being written");
  folder.write(alive + ".graph.json", "being written");
  folder.write(alive + ".saving", "");
  const int claim = ::open((root / (alive + ".saving")).c_str(), O_RDWR);
  ASSERT_EQ(::flock(claim, LOCK_EX | LOCK_NB), 0);
  const std::map<std::string, std::string> users = {
      {"notes.txt", "mine"},
      {"manifest.json.bak", "mine"},
      {"tp_rank_0/model.safetensors", "mine"},
      {"tp_rank_0/20200101T000000-0123456789ABCDEF.safetensors", "mine"},
      {"tp_rank_0/" + dead + ".safetensors.bak", "mine"},
      {dead + ".safetensors", "mine"},
      {dead + ".json", "mine"},
      {dead + ".Graph.json", "mine"},
      {dead + ".graph.json.bak", "mine"},
      {"tp_rank_0/" + dead + ".graph.json", "mine"},
      {"graph.json", "mine"},
  };
  for (const auto& [name, bytes] : users) {
    folder.write(name, bytes);
  }

  run_tensor_parallel(2, [&] {
    save_seed(root, 2);
    expect_loads(root, 2);
  });
  const auto files = folder.files();
  for (const auto& [name, bytes] : users) {
    EXPECT_TRUE(files.contains(name) && files.at(name) == bytes) << name;
  }
  EXPECT_TRUE(files.contains("tp_rank_0/" + alive + ".safetensors"));
  EXPECT_TRUE(files.contains(alive + ".graph.json"));
  EXPECT_TRUE(files.contains(alive + ".saving"));
  // With the manifest and one file a rank, that is all.
  EXPECT_EQ(files.size(), users.size() + 3 + 3);
  ::close(claim);

  run_tensor_parallel(2, [&] { save_seed(root, 3); });
  EXPECT_EQ(folder.files().size(), users.size() + 3);
}

TEST(SaveFailure, SavesOverEachOther) {
  const TemporaryFolder folder;
  for (const int tp : {1, 3, 2, 4, 1}) {
    run_tensor_parallel(tp, [&] {
      save_seed(folder.path(), tp);
      expect_loads(folder.path(), tp);
    });
    EXPECT_EQ(folder.files().size(), static_cast<size_t>(tp) + 1);
  }
}

}  // namespace
}  // namespace colonnade
