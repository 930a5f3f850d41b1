// tests/trace/save_load_test.cpp
// Traced models on disk: every degree to every degree, states, damage.
#include "colonnade/parallel_layers/save_load.h"

#include "colonnade/checkpoint/detail/load_checkpoint.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/models/cached_llama.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/parallel_model_save_load.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/expect.h"
#include "tests/testing/temporary_folder.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace colonnade::trace {
namespace {

namespace fs = std::filesystem;
namespace pl = parallel_layers;
namespace ps = parallel_state;
using at::Tensor;
using colonnade::testing::expect_close;
using colonnade::testing::expect_equal;
using ::testing::AllOf;
using ::testing::HasSubstr;

LlamaOptions tiny(bool tied) {
  return LlamaOptions(23)  // divides over no number of ranks
      .hidden_size(16)
      .intermediate_size(27)
      .num_layers(2)
      .num_heads(4)
      .num_kv_heads(2)
      .max_positions(32)
      .tie_embeddings(tied);
}

Llama make_llama(const LlamaOptions& options) {
  manual_seed(7);
  return Llama(options);
}

CachedLlama make_cached(bool tied) {
  manual_seed(7);
  return CachedLlama(tiny(tied), /*batch=*/1, /*max_length=*/24);
}

const Tensor kIds = torch::tensor({{1, 4, 9, 16, 2, 22}});

/// The digest of each tensor in a folder.
std::map<std::string, uint64_t> digests(const fs::path& folder) {
  std::map<std::string, uint64_t> result;
  for (const auto& tensor : colonnade::detail::read_manifest(folder).tensors) {
    result[tensor.name] = tensor.digest;
  }
  return result;
}

/// The logits after each of `ids`, one call a token.
std::vector<Tensor> decode(TensorParallelModel& model, const Tensor& ids) {
  std::vector<Tensor> logits;
  for (int64_t i = 0; i < ids.size(1); ++i) {
    logits.push_back(model(ids.narrow(1, i, 1)));
  }
  return logits;
}

class SavedAndLoaded : public ::testing::TestWithParam<std::tuple<int, int>> {
 protected:
  int from() const { return std::get<0>(GetParam()); }
  int to() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Degrees, SavedAndLoaded,
                         ::testing::Combine(::testing::Values(1, 2, 4),
                                            ::testing::Values(1, 2, 4)));

TEST_P(SavedAndLoaded, LlamaIsEqualAtEveryDegree) {
  for (const bool tied : {false, true}) {
    const TemporaryFolder folder;
    TensorParallelModel traced = parallel_model_trace(
        [&] { return make_llama(tiny(tied)); },
        {torch::arange(12).remainder(23).view({2, 6})}, from());
    ASSERT_FALSE(traced.graph().fixed.has_value()) << *traced.graph().fixed;
    parallel_model_save(traced, folder.path());
    TensorParallelModel loaded = parallel_model_load(folder.path(), to());
    EXPECT_EQ(loaded.tensor_parallel_size(), to());
    const Tensor ids = torch::randint(0, 23, {3, 9});
    expect_close(loaded(ids), traced(ids), 1e-5);
    if (from() == to()) {
      expect_equal(loaded(ids), traced(ids));
    }
    // Loaded models save as traced ones do, bytes of weights included.
    const TemporaryFolder again;
    parallel_model_save(loaded, again.path());
    EXPECT_EQ(digests(again.path()), digests(folder.path()));
    TensorParallelModel second = parallel_model_load(again.path(), from());
    expect_close(second(ids), traced(ids), 1e-5);
  }
}

TEST_P(SavedAndLoaded, CachedLlamaDecodesAtEveryDegree) {
  const TemporaryFolder folder;
  TraceOptions options;
  options.dynamic_dims = {{1}};
  TensorParallelModel traced = parallel_model_trace(
      [] { return make_cached(false); }, {kIds}, from(), options);
  ASSERT_FALSE(traced.graph().fixed.has_value()) << *traced.graph().fixed;
  parallel_model_save(traced, folder.path());
  for (const auto& [name, bytes] : folder.files()) {
    EXPECT_LT(bytes.size(), 64u << 10) << name << " holds the empty cache";
  }
  TensorParallelModel loaded = parallel_model_load(folder.path(), to());
  TensorParallelModel other = loaded.new_session();
  const std::vector<Tensor> want = decode(traced, kIds);
  other(kIds.narrow(1, 2, 3));
  const std::vector<Tensor> got = decode(loaded, kIds);
  for (size_t i = 0; i < want.size(); ++i) {
    expect_close(got[i], want[i], 1e-5);
  }
  loaded.reset_state();
  expect_close(loaded(kIds), want.back(), 1e-5);
}

/// Sizes that only one degree has, in the graph.
struct FixedImpl : torch::nn::Module {
  FixedImpl() : up(pl::ColumnParallelLinearOptions(4, 8).gather_output(false)) {
    register_module("up", up);
  }
  Tensor forward(const Tensor& x) {
    Tensor y = up(x);
    for (int64_t i = 0; i < ps::get_tensor_model_parallel_size(); ++i) {
      y = y + 1;
    }
    return pl::gather_from_tensor_model_parallel_region(y);
  }
  pl::ColumnParallelLinear up;
};
TORCH_MODULE(Fixed);

TEST(SaveLoad, GraphOfOneDegreeSaysWhy) {
  const TemporaryFolder folder;
  TensorParallelModel model =
      parallel_model_trace([] { return Fixed(); }, {torch::ones({2, 4})}, 2);
  ASSERT_TRUE(model.graph().fixed.has_value());
  parallel_model_save(model, folder.path());
  const Tensor x = torch::randn({3, 4});
  TensorParallelModel again = parallel_model_load(folder.path());
  expect_equal(again(x), model(x));
  EXPECT_THAT(
      error_of<CheckpointError>([&] { parallel_model_load(folder.path(), 1); }),
      AllOf(HasSubstr(folder.path().string()),
            HasSubstr("valid at tensor-parallel degree 2 only, not at 1"),
            HasSubstr("aten::add.Scalar")));
}

TEST(SaveLoad, ByTheRanksOfALauncher) {
  const TemporaryFolder folder;
  const Tensor ids = torch::randint(0, 23, {2, 5});
  Tensor want;
  run_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(2);
    TensorParallelModel model =
        parallel_model_trace([] { return make_llama(tiny(false)); }, {ids}, 2);
    parallel_model_save(model, folder.path());
    TensorParallelModel loaded = parallel_model_load(folder.path());
    const Tensor traced = model(ids);
    expect_equal(loaded(ids), traced);
    if (rank == 0) {
      want = traced;
    }
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { parallel_model_load(folder.path(), 4); }),
                HasSubstr("tp_degree is 4, but these ranks have a "
                          "tensor-parallel size of 2"));
  });
  TensorParallelModel outside = parallel_model_load(folder.path(), 4);
  expect_close(outside(ids), want, 1e-5);
}

class Damaged : public ::testing::Test {
 protected:
  Damaged() {
    TensorParallelModel model =
        parallel_model_trace([] { return make_llama(tiny(false)); },
                             {torch::arange(12).remainder(23).view({2, 6})}, 2);
    parallel_model_save(model, folder_.path());
  }

  std::string load_error() const {
    return error_of<CheckpointError>(
        [&] { parallel_model_load(folder_.path()); });
  }
  /// The path of the file whose name ends so.
  std::string find(const std::string& ending) const {
    for (const auto& [name, bytes] : folder_.files()) {
      if (name.ends_with(ending)) {
        return name;
      }
    }
    return {};
  }

  TemporaryFolder folder_;
};

TEST_F(Damaged, MissingFilesAreNamed) {
  for (const std::string ending : {"graph.json", "manifest.json"}) {
    const std::string name = find(ending);
    fs::rename(folder_.path() / name, folder_.path() / "../away");
    EXPECT_THAT(load_error(), HasSubstr(name));
    fs::rename(folder_.path() / "../away", folder_.path() / name);
  }
  const std::string name = find(".safetensors");
  fs::remove(folder_.path() / name);
  EXPECT_THAT(load_error(), HasSubstr(name));
}

TEST_F(Damaged, ExtraFileIsNamed) {
  folder_.write("notes.txt", "who put this here?");
  EXPECT_THAT(load_error(), HasSubstr("notes.txt"));
}

TEST_F(Damaged, CutAndAlteredFilesAreNamed) {
  for (const auto& [name, bytes] : folder_.files()) {
    folder_.write(name, bytes.substr(0, bytes.size() - 1));
    EXPECT_THAT(load_error(), HasSubstr(name)) << "cut";
    for (const size_t at : {bytes.size() / 3, bytes.size() - 2}) {
      std::string altered = bytes;
      altered[at] = static_cast<char>(altered[at] ^ 1);
      folder_.write(name, altered);
      EXPECT_THAT(load_error(), HasSubstr(name)) << "altered at " << at;
    }
    folder_.write(name, bytes);
  }
  parallel_model_load(folder_.path());
}

TEST_F(Damaged, SwappedFilesAreNamed) {
  const auto files = folder_.files();
  std::vector<std::string> names;
  for (const auto& [name, bytes] : files) {
    if (name.ends_with(".safetensors")) {
      names.push_back(name);
    }
  }
  ASSERT_EQ(names.size(), 2u);
  folder_.write(names[0], files.at(names[1]));
  folder_.write(names[1], files.at(names[0]));
  EXPECT_THAT(load_error(), HasSubstr(names[0]));
}

TEST_F(Damaged, FolderOfAnOrdinaryCheckpointIsNoTracedModel) {
  const TemporaryFolder other;
  run_ranks(1, [&] {
    ps::initialize_model_parallel();
    StateDict state;
    state["step"] = int64_t{1};
    pl::save(state, other.path());
  });
  EXPECT_THAT(
      error_of<CheckpointError>([&] { parallel_model_load(other.path()); }),
      HasSubstr("graph.json"));
  EXPECT_THAT(error_of<CheckpointError>(
                  [&] { parallel_model_load(other.path() / "nowhere"); }),
              HasSubstr("nowhere: is not a folder with a checkpoint"));
}

}  // namespace
}  // namespace colonnade::trace
