// tests/checkpoint/load_checkpoint_test.cpp
#include "colonnade/checkpoint/detail/load_checkpoint.h"

#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/core/error.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/temporary_folder.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;
using testing::expect_equal;
using testing::expect_throw;
using testing::numbers;
using testing::run_tensor_parallel;

constexpr LoadOptions kMapped = {.padded = true, .map_files = true};
constexpr LoadOptions kCopied = {.padded = true, .map_files = false};

StateTensor shard(const at::Tensor& whole, const ShardSpec& spec) {
  return {split(whole, spec), TensorParallelAttributes{spec, "tp"}};
}

/// Tensors of every layout; `salt` tells saves apart.
StateDict every_layout(const GroupPtr& group, int64_t salt) {
  const int64_t rank = group->rank();
  const int64_t size = group->size();
  const std::vector<int64_t> fused = {8, 16};
  StateDict state;
  state["rows"] =
      shard(numbers({8, 3}, salt), ShardSpec::even(0, 8, rank, size));
  state["columns"] = shard(numbers({5, 8}, salt).to(at::kBFloat16),
                           ShardSpec::even(1, 8, rank, size));
  state["fused"] = shard(numbers({24, 2}, salt).to(at::kFloat),
                         ShardSpec::segments(0, fused, rank, size));
  state["padded"] =
      shard(numbers({7, 3}, salt), ShardSpec::padded(0, 7, rank, size));
  const at::Tensor norm = numbers({6}, salt).to(at::kFloat);
  state["norm"] = norm;
  state["scalar"] = numbers({1}, salt)[0];
  state["mask"] = numbers({9}, salt).gt(0);
  state["empty"] = at::empty({0, 3});
  state["tied"] = norm;
  return state;
}

/// Is its memory a file's?
bool is_mapped(const at::Tensor& tensor) {
  return !tensor.storage().resizable();
}

StateDict load_with(const fs::path& folder, const LoadOptions& options) {
  return load_checkpoint(folder, {.options = options});
}

class MappedTest : public ::testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(MappedTest, TensorsAreThoseThatWereSaved) {
  const int from = std::get<0>(GetParam());
  const int to = std::get<1>(GetParam());
  const TemporaryFolder folder;
  run_tensor_parallel(from, [&](const GroupPtr& group) {
    save_checkpoint(every_layout(group, 1), folder.path());
  });
  run_tensor_parallel(to, [&](const GroupPtr& group) {
    const StateDict want = every_layout(group, 1);
    const StateDict copied = load_with(folder.path(), kCopied);
    const StateDict mapped = load_with(folder.path(), kMapped);
    ASSERT_EQ(mapped.size(), want.size());
    for (const auto& [key, value] : want) {
      const std::string name = to_string(key);
      const StateTensor& tensor = value.to_state_tensor();
      for (const StateDict* got : {&copied, &mapped}) {
        const StateTensor& loaded = got->at(key).to_state_tensor();
        expect_equal(loaded.tensor, tensor.tensor, name);
        EXPECT_EQ(loaded.attributes.has_value(), tensor.attributes.has_value());
        if (tensor.attributes.has_value()) {
          EXPECT_EQ(loaded.attributes->spec, tensor.attributes->spec) << name;
        }
      }
      EXPECT_FALSE(is_mapped(copied.at(key).to_tensor())) << name;
    }
    // What lies in one stretch of one file, and only that.
    const auto mapped_at = [&](const std::string& name) {
      return is_mapped(mapped.at(name).to_tensor());
    };
    EXPECT_TRUE(mapped_at("norm") && mapped_at("scalar") && mapped_at("mask"));
    EXPECT_FALSE(mapped_at("empty"));
    EXPECT_EQ(mapped_at("rows"), from <= to);
    EXPECT_EQ(mapped_at("columns"), from == to);
    EXPECT_EQ(mapped_at("fused"), from == to);
    const ShardSpec spec = want.at("padded").to_state_tensor().attributes->spec;
    EXPECT_EQ(mapped_at("padded"), from <= to && spec.padding() == 0);
    EXPECT_TRUE(mapped.at("tied").to_tensor().is_alias_of(
        mapped.at("norm").to_tensor()));
  });
}

INSTANTIATE_TEST_SUITE_P(Degrees, MappedTest,
                         ::testing::Combine(::testing::Values(1, 2, 4),
                                            ::testing::Values(1, 2, 4)));

TEST(Mapped, WritingChangesNoFileAndNoOtherRank) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    save_checkpoint(every_layout(group, 1), folder.path());
  });
  const auto before = folder.files();
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    StateDict mapped = load_with(folder.path(), kMapped);
    for (auto& [key, value] : mapped) {
      at::Tensor tensor = value.to_tensor();
      tensor.fill_(group->rank() + 1);
    }
    group->barrier();
    EXPECT_TRUE(is_mapped(mapped.at("norm").to_tensor()));
    for (const auto& [key, value] : mapped) {
      const at::Tensor& tensor = value.to_tensor();
      expect_equal(tensor, at::full_like(tensor, group->rank() + 1),
                   to_string(key));
    }
    expect_equal(load_with(folder.path(), kMapped).at("norm").to_tensor(),
                 every_layout(group, 1).at("norm").to_tensor());
  });
  EXPECT_EQ(folder.files(), before);
}

TEST(Mapped, TensorsOutliveTheirCheckpoint) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    save_checkpoint(every_layout(group, 1), folder.path());
    const StateDict mapped = load_with(folder.path(), kMapped);
    const auto before = folder.files();
    save_checkpoint(every_layout(group, 2), folder.path());
    for (const auto& [key, value] : every_layout(group, 1)) {
      expect_equal(mapped.at(key).to_tensor(), value.to_tensor(),
                   to_string(key));
    }
    group->barrier();
    if (group->rank() == 0) {
      fs::remove_all(folder.path());
    }
    group->barrier();
    expect_equal(mapped.at("rows").to_tensor(),
                 every_layout(group, 1).at("rows").to_tensor());
  });
}

TEST(Mapped, DamageIsFound) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    save_checkpoint(every_layout(group, 1), folder.path());
  });
  const auto files = folder.files();
  const auto file = std::prev(files.end());
  ASSERT_EQ(file->first.substr(0, 9), "tp_rank_1");
  std::string altered = file->second;
  altered.back() ^= 1;
  folder.write(file->first, altered);
  run_tensor_parallel(2, [&](const GroupPtr&) {
    expect_throw<CheckpointError>([&] { load_with(folder.path(), kMapped); },
                                  file->first);
  });
}

TEST(LoadCheckpoint, ReadsLargeTensorsInPiecesOnSeveralThreads) {
  const TemporaryFolder folder;
  const at::Tensor whole = at::arange(4'000'000, at::kFloat).view({4000, 1000});
  const auto save_split = [&](const GroupPtr& group, int64_t dim) {
    const ShardSpec spec =
        ShardSpec::even(dim, whole.size(dim), group->rank(), group->size());
    StateDict state;
    state["w"] = shard(whole, spec);
    state["norm"] = whole.select(0, 1);
    save_checkpoint(state, folder.path());
  };
  for (const int64_t dim : {0, 1}) {
    run_tensor_parallel(2,
                        [&](const GroupPtr& group) { save_split(group, dim); });
    for (const int ranks : {1, 2, 4}) {
      run_tensor_parallel(ranks, [&](const GroupPtr& group) {
        at::set_num_threads(3);
        for (const LoadOptions& options : {kCopied, kMapped}) {
          const StateTensor got =
              load_with(folder.path(), options).at("w").to_state_tensor();
          expect_equal(got.tensor, testing::part(whole, dim, group));
        }
      });
    }
  }
}

TEST(Mapped, BytesThatAreNotAlignedAreCopied) {
  const TemporaryFolder folder;
  const std::string header =
      R"({"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},)"
      R"("f":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}}    )";
  ASSERT_EQ(header.size() % 8, 0);
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  TensorStore store =
      open_unsharded(folder.write("x.safetensors", bytes + header + "1234567"));
  map_files(store);
  const auto& b = *store.names.at("b");
  const auto& f = *store.names.at("f");
  EXPECT_TRUE(find_mapped(b.parts, whole_piece(3), 1).has_value());
  EXPECT_FALSE(find_mapped(f.parts, whole_piece(1), 4).has_value());
}

TEST(LoadPadded, SplitsAVocabularyAtEveryDegree) {
  const at::Tensor whole = numbers({7, 5}).to(at::kFloat);
  const auto want = [&](const GroupPtr& group) {
    return shard(whole, ShardSpec::padded(0, 7, group->rank(), group->size()));
  };
  for (int from = 1; from <= 4; ++from) {
    const TemporaryFolder folder;
    run_tensor_parallel(from, [&](const GroupPtr& group) {
      StateDict state;
      state["vocabulary"] = want(group);
      save_checkpoint(state, folder.path());
    });
    for (int to = 1; to <= 4; ++to) {
      run_tensor_parallel(to, [&](const GroupPtr& group) {
        for (const LoadOptions& options : {kCopied, kMapped}) {
          const StateTensor got = load_with(folder.path(), options)
                                      .at("vocabulary")
                                      .to_state_tensor();
          expect_equal(got.tensor, want(group).tensor);
          EXPECT_EQ(got.attributes->spec, want(group).attributes->spec);
        }
        if (from != to) {
          expect_throw<CheckpointError>(
              [&] { load_checkpoint(folder.path()); },
              concat("load: vocabulary: was split over ", from,
                     " tensor-parallel ranks, and cannot be split evenly over ",
                     to));
        }
      });
    }
  }
}

TEST(LoadPadded, SplitsNothingElse) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    const std::vector<int64_t> sizes = {2, 2};
    StateDict state;
    state["fused"] =
        shard(numbers({4}), ShardSpec::segments(0, sizes, group->rank(), 2));
    save_checkpoint(state, folder.path());
  });
  run_tensor_parallel(3, [&](const GroupPtr&) {
    expect_throw<CheckpointError>([&] { load_with(folder.path(), kMapped); },
                                  "load: fused: was split over 2");
  });
}

TEST(LoadCheckpoint, LoadsTheSaveOfTheManifestThatItIsGiven) {
  const TemporaryFolder folder;
  const auto save_with = [&](int64_t salt) {
    run_tensor_parallel(2, [&](const GroupPtr& group) {
      save_checkpoint(every_layout(group, salt), folder.path());
    });
  };
  save_with(1);
  // Before there are ranks.
  const std::string text = read_manifest_text(folder.path());
  const Manifest manifest = read_manifest(folder.path());
  EXPECT_EQ(to_text(manifest), text);
  EXPECT_FALSE(
      plain_values(folder.path(), manifest).at("rows").to_tensor().defined());
  const auto load_text = [&] {
    return load_checkpoint(folder.path(),
                           {.options = kMapped, .manifest_text = text});
  };
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    expect_equal(load_text().at("rows").to_tensor(),
                 every_layout(group, 1).at("rows").to_tensor());
  });
  save_with(2);
  run_tensor_parallel(2, [&](const GroupPtr&) {
    expect_throw<CheckpointError>(load_text, manifest.files[0].path +
                                                 ": cannot be opened: No such "
                                                 "file or directory");
  });
}

}  // namespace
}  // namespace colonnade::detail
