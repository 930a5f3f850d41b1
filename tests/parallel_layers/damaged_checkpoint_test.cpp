// tests/parallel_layers/damaged_checkpoint_test.cpp
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"
#include "tests/parallel_layers/hand_model.h"
#include "tests/parallel_layers/tensor_parallel_ranks.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
namespace pl = parallel_layers;
namespace ps = parallel_state;
using testing::HasSubstr;

void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

void flip(const fs::path& path, int64_t position, int mask) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(position);
  const int byte = file.get();
  file.seekp(position);
  file.put(static_cast<char>(byte ^ mask));
}

/// Two tensors, one of them split.
struct TinyModel : torch::nn::Module {
  explicit TinyModel(int64_t seed) {
    const auto spec =
        ShardSpec::even(0, 4, ps::get_tensor_model_parallel_rank(),
                        ps::get_tensor_model_parallel_size());
    const at::Tensor weight =
        register_parameter("w", split(distinct({4}, seed), spec));
    set_tensor_parallel_attributes(weight, {spec, "tp"});
    register_parameter("b", distinct({2}, seed).to(torch::kBFloat16));
  }
};

template <typename Model>
std::string save_both(const fs::path& folder, int64_t seed) {
  const Model model(seed);
  StateDict state;
  state["model"] = state_dict(model);
  state["step"] = 1;
  pl::save(state, folder);
  return folder.string();
}

/// Loads into a model and expects an error that names `file`, on every rank,
/// and the model unchanged.
template <typename Model>
void expect_refused(const fs::path& folder, const std::string& file,
                    const std::string& what) {
  Model model(2);
  EXPECT_THAT(error_of<CheckpointError>([&] { pl::load(folder, model); }),
              HasSubstr(file))
      << what;
  const Model want(2);
  for (const auto& item : want.named_parameters()) {
    EXPECT_TRUE(same_bits(model.named_parameters()[item.key()], item.value()))
        << item.key() << " after " << what;
  }
}

/// Flips one byte, at each of `positions` (file, place, mask) in turn.
template <typename Model>
void expect_flips_found(
    const fs::path& folder,
    const std::vector<std::tuple<std::string, int64_t, int>>& positions) {
  const auto world = ps::get_world_group();
  for (const auto& [file, place, mask] : positions) {
    if (world->rank() == 0) {
      flip(folder / file, place, mask);
    }
    world->barrier();
    expect_refused<Model>(folder, file,
                          file + " with byte " + std::to_string(place) +
                              " changed by " + std::to_string(mask));
    world->barrier();
    if (world->rank() == 0) {
      flip(folder / file, place, mask);
    }
  }
  world->barrier();
  Model model(2);
  pl::load(folder, model);  // whole again
}

TEST(DamagedCheckpoint, EveryFlippedByteOfATinyOneIsFound) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] { save_both<TinyModel>(folder.path(), 1); });
  std::vector<std::tuple<std::string, int64_t, int>> positions;
  for (const auto& [name, bytes] : folder.files()) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      positions.emplace_back(name, static_cast<int64_t>(i), 1 << (i % 8));
    }
  }
  ASSERT_GT(positions.size(), 1000);
  for (const int tp : {1, 2}) {
    run_tensor_parallel(
        tp, [&] { expect_flips_found<TinyModel>(folder.path(), positions); });
  }
}

TEST(DamagedCheckpoint, FlippedBytesAreFoundAtEveryDegree) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] { save_both<HandModel>(folder.path(), 1); });
  std::mt19937 chance(1);
  std::vector<std::tuple<std::string, int64_t, int>> positions;
  for (const auto& [name, bytes] : folder.files()) {
    for (int i = 0; i < 40; ++i) {
      positions.emplace_back(name, chance() % bytes.size(), 1 << chance() % 8);
    }
  }
  for (const int tp : {1, 2, 3, 4}) {
    run_tensor_parallel(
        tp, [&] { expect_flips_found<HandModel>(folder.path(), positions); });
  }
}

TEST(DamagedCheckpoint, NamesTheFileThatIsCutLongerOrMissing) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] { save_both<HandModel>(folder.path(), 1); });
  for (const auto& [name, bytes] : folder.files()) {
    const fs::path path = folder.path() / name;
    const auto refused = [&](const std::string& what) {
      for (const int tp : {1, 2, 3}) {
        run_tensor_parallel(
            tp, [&] { expect_refused<HandModel>(folder.path(), name, what); });
      }
    };
    for (const size_t size : {size_t{0}, size_t{5}, size_t{20},
                              bytes.size() / 2, bytes.size() - 1}) {
      write_bytes(path, bytes.substr(0, size));
      refused(name + " cut to " + std::to_string(size));
    }
    write_bytes(path, bytes + "x");
    refused(name + " made longer");
    fs::remove(path);
    refused(name + " removed");
    fs::create_directory(path);
    refused(name + " made a folder");
    fs::remove(path);
    write_bytes(path, bytes);
  }
}

TEST(DamagedCheckpoint, NamesTheFileOfAnotherSave) {
  const TemporaryFolder folder;
  const TemporaryFolder other;
  run_tensor_parallel(2, [&] {
    save_both<HandModel>(folder.path(), 1);
    save_both<HandModel>(other.path(), 1);  // equal but for the save
  });
  const auto files = folder.files();
  const auto others = other.files();
  ASSERT_EQ(files.size(), 3);
  auto mine = files.begin();
  for (const auto& [name, bytes] : others) {
    if (name != "manifest.json") {
      write_bytes(folder.path() / mine->first, bytes);
      run_tensor_parallel(2, [&] {
        expect_refused<HandModel>(folder.path(), mine->first, "swap");
        expect_refused<HandModel>(folder.path(), "is of save ", "swap");
      });
      write_bytes(folder.path() / mine->first, mine->second);
    } else {
      EXPECT_EQ(mine->first, name);
      write_bytes(folder.path() / name, bytes);
      run_tensor_parallel(2, [&] {
        expect_refused<HandModel>(folder.path(), "tp_rank_0", "swap");
      });
      write_bytes(folder.path() / name, mine->second);
    }
    ++mine;
  }
  // The two ranks' files of one save, exchanged.
  const auto rank0 = std::next(files.begin());
  const auto rank1 = std::next(rank0);
  write_bytes(folder.path() / rank0->first, rank1->second);
  run_tensor_parallel(2, [&] {
    expect_refused<HandModel>(folder.path(), rank0->first, "exchange");
  });
}

TEST(DamagedCheckpoint, OneRankThatFailsIsNamedOnAll) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    StateDict state;
    state["own"] = torch::full({100}, ps::get_tensor_model_parallel_rank());
    pl::save(state, folder.path());
  });
  for (const auto& [name, bytes] : folder.files()) {
    if (name.starts_with("tp_rank_1")) {
      flip(folder.path() / name, static_cast<int64_t>(bytes.size()) - 1, 1);
    }
  }
  run_tensor_parallel(2, [&] {
    const std::string error =
        error_of<CheckpointError>([&] { pl::load(folder.path()); });
    EXPECT_THAT(error, HasSubstr("on rank 1: " + folder.path().string() +
                                 "/tp_rank_1/"));
    EXPECT_THAT(error, HasSubstr(": tensor own: its bytes do not match their "
                                 "digest; the file was altered"));
  });
}

}  // namespace
}  // namespace colonnade
