// tests/train/run_folder_test.cpp
#include "colonnade/train/run_folder.h"

#include "colonnade/core/error.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class RunFolderTest : public testing::Test {
 protected:
  void write_and_commit(int64_t step, const std::string& text) {
    fs::create_directories(run.partial(step));
    std::ofstream(run.partial(step) / "weights") << text;
    run.commit(step);
  }
  std::string weights(int64_t step) {
    std::string text;
    std::ifstream(run.checkpoint(step) / "weights") >> text;
    return text;
  }

  TemporaryFolder folder;
  RunFolder run{folder.path()};
};

TEST_F(RunFolderTest, ACommittedCheckpointIsTheNewest) {
  EXPECT_FALSE(run.newest());
  write_and_commit(100, "a");
  EXPECT_EQ(run.newest(), folder.path() / "step_000100");
  write_and_commit(50, "b");
  EXPECT_EQ(run.newest(), folder.path() / "step_000050");
  EXPECT_THAT(run.steps(), ElementsAre(50, 100));
}

TEST_F(RunFolderTest, ACheckpointReplacesAnOlderOneOfItsStep) {
  write_and_commit(7, "old");
  write_and_commit(7, "new");
  EXPECT_EQ(weights(7), "new");
  EXPECT_FALSE(fs::exists(run.partial(7)));
}

TEST_F(RunFolderTest, ARunThatDiesWhileItReplacesKeepsTheOlderOne) {
  write_and_commit(7, "old");
  EXPECT_THROW(run.commit(7), CheckpointError);  // has written nothing
  ASSERT_TRUE(run.newest());
  std::string text;
  std::ifstream(*run.newest() / "weights") >> text;
  EXPECT_EQ(text, "old");
  write_and_commit(7, "new");
  EXPECT_EQ(run.newest(), run.checkpoint(7));
  EXPECT_FALSE(fs::exists(run.replaced(7)));
}

TEST_F(RunFolderTest, AFullDiskLeavesTheNewestAsItIs) {
  write_and_commit(1, "a");
  fs::create_symlink("/dev/full", folder.path() / "latest.new");
  try {
    write_and_commit(2, "b");
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_EQ(error.what(),
              "RunFolder: cannot write " +
                  (folder.path() / "latest.new").string() +
                  ": it cannot take its text; see whether the disk is full");
  }
  EXPECT_EQ(run.newest(), run.checkpoint(1));
}

TEST_F(RunFolderTest, APartialCheckpointDoesNotCount) {
  write_and_commit(1, "a");
  fs::create_directories(run.partial(2));
  EXPECT_THAT(run.steps(), ElementsAre(1));
  EXPECT_EQ(run.newest(), run.checkpoint(1));
}

TEST_F(RunFolderTest, KeepsTheLastOnesUpToAStep) {
  for (int64_t step : {5, 10, 15, 20, 1'000'000}) {
    write_and_commit(step, "x");
  }
  fs::create_directories(folder.path() / "step_notes");
  run.prune(20, 2);
  EXPECT_THAT(run.steps(), ElementsAre(15, 20, 1'000'000));
  EXPECT_TRUE(fs::exists(folder.path() / "step_notes"));
}

TEST_F(RunFolderTest, SaysWhereItCannotWriteOrRead) {
  try {
    run.commit(3);
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("RunFolder: cannot write " +
                          run.checkpoint(3).string() + ": No such file"));
  }
  write_and_commit(4, "x");
  fs::remove_all(run.checkpoint(4));
  try {
    run.newest();
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), HasSubstr("names step_000004, which is not "
                                        "there; name a checkpoint folder"));
  }
}

}  // namespace
}  // namespace colonnade
