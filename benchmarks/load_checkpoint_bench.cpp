// benchmarks/load_checkpoint_bench.cpp
// Loading a checkpoint of 1 GiB, mapped and copied, beside reading its files,
// all of it in the page cache; and the digest that every load takes.
#include "colonnade/checkpoint/detail/load_checkpoint.h"

#include "benchmarks/contest.h"
#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/file.h"
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/split_join.h"

#include <ATen/ATen.h>

#include <stdlib.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
namespace ps = parallel_state;
using Clock = std::chrono::steady_clock;

constexpr int64_t kHidden = 2048;
constexpr int64_t kInner = 5632;
constexpr int64_t kVocabulary = 32000;
constexpr int64_t kLayers = 4;
constexpr int kRounds = 9;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What a Llama of four layers has, split as its layers split it: 1.0 GiB.
StateDict make_weights() {
  const int64_t rank = ps::get_tensor_model_parallel_rank();
  const int64_t size = ps::get_tensor_model_parallel_size();
  StateDict state;
  const auto add = [&](const std::string& name, int64_t out, int64_t in,
                       int64_t dim) {
    const at::Tensor whole =
        at::linspace(-1, 1, out * in).view({out, in});  // fp32
    const ShardSpec spec =
        ShardSpec::even(dim, dim == 0 ? out : in, rank, size);
    state[name] =
        StateTensor{split(whole, spec), TensorParallelAttributes{spec, "tp"}};
  };
  add("embedding", kVocabulary, kHidden, 0);
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = std::to_string(layer) + ".";
    for (const char* name : {"query", "key", "value"}) {
      add(prefix + name, kHidden, kHidden, 0);
    }
    add(prefix + "output", kHidden, kHidden, 1);
    add(prefix + "gate", kInner, kHidden, 0);
    add(prefix + "up", kInner, kHidden, 0);
    add(prefix + "down", kHidden, kInner, 1);
    state[prefix + "norm"] = at::ones({kHidden});
  }
  return state;
}

void save_at(const fs::path& folder, int ranks) {
  run_ranks(ranks, [&] {
    ps::initialize_model_parallel(ranks);
    detail::save_checkpoint(make_weights(), folder);
  });
}

enum class Values { kMapped, kCopied };

/// Seconds until every rank has its part.
double time_load(const fs::path& folder, int ranks, Values values) {
  double seconds = 0;
  run_ranks(ranks, [&](int rank) {
    ps::initialize_model_parallel(ranks);
    const GroupPtr group = ps::get_tensor_model_parallel_group();
    group->barrier();
    const auto start = Clock::now();
    const StateDict state = detail::load_checkpoint(
        folder,
        {.options = {.padded = false, .map_files = values == Values::kMapped}});
    group->barrier();
    if (rank == 0) {
      seconds = seconds_since(start);
    }
    if (state.size() != 1 + 8 * kLayers) {
      std::fprintf(stderr, "loaded %zu tensors\n", state.size());
      std::exit(1);
    }
  });
  return seconds;
}

/// Seconds until the files' bytes are in new memory, as a copy needs them.
double time_read(const fs::path& folder) {
  double seconds = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") {
      const auto file = detail::File::open_for_reading(entry.path());
      const int64_t size = file.size();
      const auto start = Clock::now();
      const at::Tensor bytes = at::empty({size}, at::kByte);
      file.read(0, bytes.mutable_data_ptr(), size);
      seconds += seconds_since(start);
    }
  }
  return seconds;
}

double time_cat(const fs::path& folder) {
  const std::string command =
      "cat " + folder.string() + "/tp_rank_*/*.safetensors > /dev/null";
  const auto start = Clock::now();
  if (std::system(command.c_str()) != 0) {
    std::exit(1);
  }
  return seconds_since(start);
}

double time_digest(const at::Tensor& tensor) {
  static uint64_t want = 0;
  const auto start = Clock::now();
  const uint64_t digest =
      detail::tensor_digest("w", detail::whole_piece(tensor.numel()),
                            tensor.const_data_ptr(), tensor.element_size());
  const double seconds = seconds_since(start);
  want = want == 0 ? digest : want;
  if (digest != want) {
    std::exit(1);
  }
  return seconds;
}

void compare(const fs::path& root) {
  save_at(root / "1", 1);
  save_at(root / "2", 2);
  const at::Tensor weights = at::linspace(-1, 1, int64_t{1} << 28);
  const auto load = [&](const char* from, int ranks, Values values) {
    return [=] { return time_load(root / from, ranks, values); };
  };
  bench::contest(
      "loading 1.0 GiB, fp32, from the page cache",
      {{"cat of the files", [=] { return time_cat(root / "1"); }},
       {"read into new memory", [=] { return time_read(root / "1"); }},
       {"digest, 1 thread", [=] { return time_digest(weights); }},
       {"TP=1, mapped", load("1", 1, Values::kMapped)},
       {"TP=1, copied", load("1", 1, Values::kCopied)},
       {"TP=2, mapped", load("2", 2, Values::kMapped)},
       {"TP=2, copied", load("2", 2, Values::kCopied)},
       {"saved at TP=1, loaded at 2, mapped", load("1", 2, Values::kMapped)},
       {"saved at TP=2, loaded at 1, mapped", load("2", 1, Values::kMapped)}},
      kRounds);
}

}  // namespace
}  // namespace colonnade

int main() {
  std::string name =
      (std::filesystem::temp_directory_path() / "colonnade_XXXXXX").string();
  const std::filesystem::path root = mkdtemp(name.data());
  colonnade::compare(root);
  std::filesystem::remove_all(root);
}
