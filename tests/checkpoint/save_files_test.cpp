// tests/checkpoint/save_files_test.cpp
#include "colonnade/checkpoint/detail/save_files.h"

#include "colonnade/checkpoint/detail/load_checkpoint.h"
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/core/error.h"
#include "tests/testing/expect.h"
#include "tests/testing/temporary_folder.h"
#include "tests/testing/tensor_parallel.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;
using testing::expect_throw;

const std::string kId = "20200101T000000-0123456789abcdef";

/// A folder with one save on two ranks, and a file attached.
class ExtraFilesTest : public ::testing::Test {
 protected:
  ExtraFilesTest() {
    testing::run_tensor_parallel(2, [&](const GroupPtr&) {
      StateDict state;
      state["w"] = testing::numbers({4});
      save_checkpoint(state, folder_.path(),
                      std::vector<Attachment>{{"graph.json", "{}"}});
    });
  }

  void check() const {
    check_no_extra_files(folder_.path(), read_manifest(folder_.path()));
  }
  /// Expects an error that names `file`, then removes it.
  void expect_refused(const std::string& file) const {
    expect_throw<CheckpointError>(
        [&] { check(); },
        (folder_.path() / file).string() +
            ": is not named by manifest.json; remove it, or save into a folder "
            "of its own");
    fs::remove_all(folder_.path() / file);
    check();
  }

  TemporaryFolder folder_;
};

TEST_F(ExtraFilesTest, AreNamedWhereverTheyLie) {
  check();
  fs::create_directories(folder_.path() / "tp_rank_7");  // holds nothing
  fs::create_directories(folder_.path() / "sub" / "folder");
  check();
  for (const std::string file :
       {"notes.txt", "manifest.json.bak", "sub/folder/manifest.json",
        "tp_rank_0/x.safetensors", "graph.json"}) {
    folder_.write(file, "x");
    expect_refused(file);
  }
  fs::create_directory_symlink(folder_.path(), folder_.path() / "link");
  expect_refused("link");
  folder_.write("b", "");
  folder_.write("a", "");
  expect_throw<CheckpointError>([&] { check(); }, "/a: is not named");
}

TEST_F(ExtraFilesTest, MayBeThoseOfASaveInFlight) {
  const std::vector<std::string> files = {kId + ".graph.json",
                                          "manifest.json." + kId,
                                          "tp_rank_1/" + kId + ".safetensors"};
  std::optional<SaveClaim> claim;
  claim.emplace(folder_.path(), kId);
  for (const std::string& file : files) {
    folder_.write(file, "half");
    check();
  }
  for (const std::string other : {".graph.txt", ".safetensors"}) {
    folder_.write(kId + other, "");
    expect_refused(kId + other);
  }
  claim.reset();  // it died
  for (const std::string& file : files) {
    expect_throw<CheckpointError>([&] { check(); }, kId);
    fs::remove(folder_.path() / file);
  }
  check();
  folder_.write(kId + ".saving", "");  // held by nobody
  expect_refused(kId + ".saving");
}

TEST_F(ExtraFilesTest, NeedAFolder) {
  const Manifest manifest = read_manifest(folder_.path());
  expect_throw<CheckpointError>(
      [&] { check_no_extra_files(folder_.path() / "none", manifest); },
      "none: cannot be read: No such file or directory");
}

}  // namespace
}  // namespace colonnade::detail
