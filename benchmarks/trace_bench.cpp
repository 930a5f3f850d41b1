// benchmarks/trace_bench.cpp
// Traced models: what a call costs beside its work, replay beside the model's
// own forward in inference mode, and how long a large model takes to load and
// give its first token, beside reading its files.
#include "benchmarks/contest.h"
#include "benchmarks/measure.h"
#include "colonnade/launch/rank_pool.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/models/cached_llama.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/parallel_model_save_load.h"
#include "colonnade/trace/parallel_model_trace.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
namespace pl = parallel_layers;
namespace ps = parallel_state;
using at::Tensor;
using trace::TensorParallelModel;
using trace::TraceOptions;
using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Seconds of one call, the mean of `calls` in a row.
double per_call(int calls, const std::function<void()>& call) {
  return seconds_of([&] {
           for (int i = 0; i < calls; ++i) {
             call();
           }
         }) /
         calls;
}

TraceOptions options(bool optimize) {
  TraceOptions result;
  result.optimize = optimize;
  return result;
}

struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(int64_t hidden)
      : up(pl::ColumnParallelLinearOptions(hidden, 4 * hidden)
               .gather_output(false)),
        down(pl::RowParallelLinearOptions(4 * hidden, hidden)
                 .input_is_parallel(true)) {
    register_module("up", up);
    register_module("down", down);
  }
  Tensor forward(const Tensor& x) { return down(at::gelu(up(x))); }
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
};
TORCH_MODULE(Mlp);

struct IdentityImpl : torch::nn::Module {
  Tensor forward(const Tensor& x) { return x; }
};
TORCH_MODULE(Identity);

/// The model's own forward on ranks that stay, in inference mode.
template <typename Model>
class Eager {
 public:
  Eager(int degree, std::function<Model()> make)
      : pool_(degree, [degree] { ps::initialize_model_parallel(degree); }),
        models_(static_cast<size_t>(degree), Model(nullptr)) {
    pool_.run([&](int rank) {
      models_[static_cast<size_t>(rank)] = make();
      models_[static_cast<size_t>(rank)]->eval();
    });
  }

  template <typename Reset>
  void reset(Reset&& reset) {
    for (Model& model : models_) {
      reset(model);
    }
  }

  void operator()(const Tensor& x) {
    pool_.run([&](int rank) {
      const c10::InferenceMode inference;
      models_[static_cast<size_t>(rank)]->forward(x);
    });
  }

 private:
  RankPool pool_;
  std::vector<Model> models_;
};

void race_mlp(int degree, int64_t hidden, int64_t tokens) {
  const Tensor x = at::randn({1, tokens, hidden});
  const auto make = [hidden] {
    manual_seed(1);
    return Mlp(hidden);
  };
  Eager<Mlp> eager(degree, make);
  const Tensor example = at::randn({2, 4, hidden});
  TraceOptions exact = options(false);
  exact.dynamic_dims = {{0, 1}};
  TraceOptions fast = exact;
  fast.optimize = true;
  auto replay = trace::parallel_model_trace(make, {example}, degree, exact);
  auto optimized = trace::parallel_model_trace(make, {example}, degree, fast);
  const int calls = tokens > 64 ? 20 : 400;
  bench::contest(
      "MLP, hidden " + std::to_string(hidden) + ", " + std::to_string(tokens) +
          " tokens, TP=" + std::to_string(degree),
      {{"eager", [&] { return per_call(calls, [&] { eager(x); }); }},
       {"replay", [&] { return per_call(calls, [&] { replay(x); }); }},
       {"replay, optimized",
        [&] { return per_call(calls, [&] { optimized(x); }); }}},
      /*rounds=*/9);
}

LlamaOptions llama_options() {
  return LlamaOptions(1024)
      .hidden_size(256)
      .intermediate_size(704)
      .num_layers(4)
      .num_heads(8)
      .max_positions(512);
}

void race_llama(int degree, at::ScalarType dtype, int64_t seq) {
  const auto make = [dtype] {
    manual_seed(1);
    return CachedLlama(llama_options().dtype(dtype), /*batch=*/1,
                       /*max_length=*/512);
  };
  Eager<CachedLlama> eager(degree, make);
  const Tensor example = at::arange(8).view({1, 8});
  TraceOptions exact = options(false);
  exact.dynamic_dims = {{1}};
  TraceOptions fast = exact;
  fast.optimize = true;
  auto replay = trace::parallel_model_trace(make, {example}, degree, exact);
  auto optimized = trace::parallel_model_trace(make, {example}, degree, fast);
  const Tensor ids = at::arange(seq).view({1, seq});
  const int calls = static_cast<int>(500 / seq);
  const auto reset = [](CachedLlama& model) { model->cache->clear(); };
  bench::contest(std::string("Llama with cache, 4 layers of 256, ") +
                     c10::toString(dtype) + ", " + std::to_string(seq) +
                     " ids a call, TP=" + std::to_string(degree),
                 {{"eager",
                   [&] {
                     eager.reset(reset);
                     return per_call(calls, [&] { eager(ids); });
                   }},
                  {"replay",
                   [&] {
                     replay.reset_state();
                     return per_call(calls, [&] { replay(ids); });
                   }},
                  {"replay, optimized",
                   [&] {
                     optimized.reset_state();
                     return per_call(calls, [&] { optimized(ids); });
                   }}},
                 /*rounds=*/9);
}

void time_empty_call() {
  const Tensor x = at::ones({2});
  auto one = trace::parallel_model_trace([] { return Identity(); }, {x}, 1);
  auto two = trace::parallel_model_trace([] { return Identity(); }, {x}, 2);
  RankPool pool(2, [] { ps::initialize_model_parallel(2); });
  constexpr int kCalls = 20000;
  bench::contest(
      "A call of an empty model",
      {{"the pool of ranks alone, 2 ranks",
        [&] { return per_call(kCalls, [&] { pool.run([](int) {}); }); }},
       {"TP=1", [&] { return per_call(kCalls, [&] { one(x); }); }},
       {"TP=2", [&] { return per_call(kCalls, [&] { two(x); }); }}},
      /*rounds=*/9);
}

void read_all(const fs::path& folder) {
  std::vector<char> buffer(size_t{4} << 20);
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      std::ifstream in(entry.path(), std::ios::binary);
      while (in.read(buffer.data(),
                     static_cast<std::streamsize>(buffer.size()))) {}
    }
  }
}

void time_load() {
  const fs::path folder =
      fs::temp_directory_path() / "colonnade_trace_bench_model";
  {
    TraceOptions quick = options(false);
    quick.dynamic_dims = {{1}};
    auto model = trace::parallel_model_trace(
        [] {
          manual_seed(1);
          return CachedLlama(LlamaOptions(32000)
                                 .hidden_size(2048)
                                 .intermediate_size(5504)
                                 .num_layers(3)
                                 .num_heads(16)
                                 .max_positions(512),
                             /*batch=*/1, /*max_length=*/512);
        },
        {at::arange(4).view({1, 4})}, 1, quick);
    trace::parallel_model_save(model, folder);
  }
  int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    bytes +=
        entry.is_regular_file() ? static_cast<int64_t>(entry.file_size()) : 0;
  }
  const Tensor id = at::ones({1, 1}, at::kLong);
  trace::LoadOptions plain;
  plain.optimize = false;
  const auto load = [&](int degree, const trace::LoadOptions& how,
                        bool first_token) {
    return seconds_of([&] {
      auto model = trace::parallel_model_load(folder, degree, how);
      if (first_token) {
        model(id);
      }
    });
  };
  bench::contest(
      "Loading a model of " + bench::bytes_text(static_cast<double>(bytes)) +
          " (page cache warm)",
      {{"reading its files",
        [&] { return seconds_of([&] { read_all(folder); }); }},
       {"load, TP=1", [&] { return load(1, plain, false); }},
       {"load and first token, TP=1", [&] { return load(1, plain, true); }},
       {"load, optimized, TP=1", [&] { return load(1, {}, false); }},
       {"load, TP=2", [&] { return load(2, plain, false); }},
       {"load and first token, TP=2", [&] { return load(2, plain, true); }}},
      /*rounds=*/5);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace colonnade

int main() {
  colonnade::install_caching_allocator();  // for every contestant
  colonnade::time_empty_call();
  for (const int degree : {1, 2}) {
    colonnade::race_mlp(degree, 256, 1);
    colonnade::race_mlp(degree, 1024, 16);
    colonnade::race_mlp(degree, 1024, 512);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      colonnade::race_llama(degree, dtype, 1);
      colonnade::race_llama(degree, dtype, 64);
    }
  }
  colonnade::time_load();
}
