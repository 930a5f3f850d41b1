// tests/checkpoint/attachment_test.cpp
#include "colonnade/checkpoint/detail/attachment.h"

#include "colonnade/checkpoint/detail/load_checkpoint.h"
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/core/error.h"
#include "tests/testing/expect.h"
#include "tests/testing/temporary_folder.h"
#include "tests/testing/tensor_parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;
using colonnade::testing::expect_throw;
using colonnade::testing::numbers;
using colonnade::testing::run_tensor_parallel;
using ::testing::HasSubstr;
using ::testing::Not;

StateDict tiny_state() {
  StateDict state;
  state["w"] = numbers({4});
  state["step"] = 7;
  return state;
}

/// Saves the state with a graph and a note, on `ranks` ranks.
void save_attached(const fs::path& folder, int ranks,
                   const std::string& graph) {
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    // Only those of the rank that commits are written.
    const std::string text = group->rank() == 0 ? graph : "another rank's";
    save_checkpoint(
        tiny_state(), folder,
        std::vector<Attachment>{{"graph.json", text}, {"notes_2.json", ""}});
  });
}

TEST(Attachment, IsReadAsItWasSaved) {
  const std::string graph("{\"ops\":[]}\n\0\xff", 13);
  for (const int ranks : {1, 2, 4}) {
    const TemporaryFolder folder;
    save_attached(folder.path(), ranks, graph);
    const Manifest manifest = read_manifest(folder.path());
    ASSERT_EQ(manifest.attachments.size(), 2);
    EXPECT_EQ(manifest.attachments[0].path, manifest.id + ".graph.json");
    EXPECT_EQ(read_attachment(folder.path(), manifest, "graph.json"), graph);
    EXPECT_EQ(read_attachment(folder.path(), manifest, "notes_2.json"), "");
    EXPECT_EQ(plain_values(folder.path(), manifest).at("step").to_int(), 7);
    EXPECT_EQ(folder.files().size(), 3 + static_cast<size_t>(ranks));
    run_tensor_parallel(3, [&](const GroupPtr&) {
      EXPECT_EQ(load_checkpoint(folder.path()).at("step").to_int(), 7);
    });
  }
}

TEST(Attachment, ManifestWithoutAnyIsAsBefore) {
  const TemporaryFolder folder;
  save_checkpoint(tiny_state(), folder.path());
  const Manifest manifest = read_manifest(folder.path());
  EXPECT_THAT(to_text(manifest), Not(HasSubstr("attachments")));
  expect_throw<CheckpointError>(
      [&] { read_attachment(folder.path(), manifest, "graph.json"); },
      folder.path().string() +
          "/manifest.json: names no attachment \"graph.json\"; its "
          "attachments are: none");
}

TEST(Attachment, DamageIsNamed) {
  const TemporaryFolder folder;
  save_attached(folder.path(), 2, "0123456789");
  const Manifest manifest = read_manifest(folder.path());
  const std::string name = manifest.id + ".graph.json";
  const std::string path = (folder.path() / name).string();
  const auto refused = [&](const std::string& what) {
    expect_throw<CheckpointError>(
        [&] { read_attachment(folder.path(), manifest, "graph.json"); },
        path + what);
  };
  folder.write(name, "01234567");
  refused(": has 8 bytes, but 10 were saved; it was cut");
  folder.write(name, "0123456789\n");
  refused(": has 11 bytes, but 10 were saved; it was added to");
  folder.write(name, "0123456788");
  refused(": its bytes do not match their digest; the file was altered");
  fs::remove(path);
  refused(": cannot be opened: No such file or directory");
  fs::create_directory(path);
  refused(": is not a plain file");
  expect_throw<CheckpointError>(
      [&] { read_attachment(folder.path(), manifest, "other.json"); },
      "its attachments are: graph.json, notes_2.json");
}

TEST(Attachment, NamesAreCheckedBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& names,
                           const std::string& what) {
    std::vector<Attachment> attachments;
    for (const std::string& name : names) {
      attachments.push_back({name, "text"});
    }
    run_tensor_parallel(2, [&](const GroupPtr&) {
      expect_throw<InvalidArgument>(
          [&] { save_checkpoint(tiny_state(), folder.path(), attachments); },
          what);
    });
    EXPECT_TRUE(folder.files().empty());
  };
  for (const std::string name :
       {"graph", ".json", "", "Graph.json", "../x.json", "a.b.json", "safe "}) {
    refused({name}, "save: the attachment \"" + name +
                        "\" is not called in lower-case letters, digits and "
                        "underscores and then \".json\"");
  }
  refused({"graph.json", "graph.json"},
          "save: the attachment \"graph.json\" is there twice");
}

TEST(Attachment, OfAnotherSaveIsRefused) {
  Manifest manifest;
  manifest.id = "20260131T235959-0123456789abcdef";
  manifest.state = {{"dict", nlohmann::json::array()}};
  for (const std::string path :
       {"/etc/passwd", "20260131T235959-0123456789abcdee.graph.json"}) {
    manifest.attachments = {{"graph.json", path, 0, ""}};
    expect_throw<CheckpointError>(
        [&] { manifest_from_text(to_text(manifest), "m"); },
        "m: names an attachment " + path + " of no save");
  }
  const std::string climbing = "x/../../y.json";
  manifest.attachments = {{climbing, manifest.id + "." + climbing, 0, ""}};
  expect_throw<CheckpointError>(
      [&] { manifest_from_text(to_text(manifest), "m"); }, " of no save");
}

}  // namespace
}  // namespace colonnade::detail
