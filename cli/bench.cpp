// cli/bench.cpp
#include "cli/command.h"
#include "cli/example_inputs.h"
#include "cli/format.h"
#include "cli/launched_ranks.h"
#include "cli/samples.h"
#include "cli/shared_options.h"
#include "cli/terminal.h"
#include "cli/traced_model.h"
#include "cli/validators.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/trace/parallel_model_trace.h"

#include <ATen/ops/ones.h>
#include <torch/nn/module.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace colonnade::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  colonnade bench traced
      Time of a call for texts of some lengths, and for one token after another.
  colonnade bench traced --tp 1 --seq 16,64 --rounds 50
      On one rank, for these lengths.
)";

struct BenchCommand {
  TracedModelOptions model;
  std::vector<int64_t> batches;
  std::vector<int64_t> seqs;
  int rounds = 20;
};

/// One kind of call.
struct Case {
  std::string name;
  int64_t tokens = 0;             ///< Of a call; 0: it has none.
  std::function<void()> prepare;  ///< Not timed, once a round.
  std::function<void()> call;
  int64_t calls = 1;  ///< In a round.
  std::vector<double> seconds = {};
};

/// What a call costs beside its ops: one addition of two numbers.
struct OneOp : torch::nn::Module {
  at::Tensor forward(const at::Tensor& x) { return x + 1; }
};

trace::TensorParallelModel one_op_model(int64_t tp) {
  return trace::parallel_model_trace([] { return std::make_shared<OneOp>(); },
                                     {at::ones({1})}, tp);
}

std::string number_of(int64_t count, const std::string& what) {
  return concat(with_commas(count), " ", what, count == 1 ? "" : "s");
}

/// Lengths of texts that fit, each four times the one before.
std::vector<int64_t> usual_lengths(int64_t longest) {
  std::vector<int64_t> lengths;
  for (int64_t length = 8; length <= longest; length *= 4) {
    lengths.push_back(length);
  }
  return lengths.empty() ? std::vector<int64_t>{longest} : lengths;
}

int64_t tokens_of(const std::vector<c10::IValue>& inputs) {
  if (inputs.empty() || !inputs[0].isTensor() ||
      inputs[0].toTensor().scalar_type() != at::kLong) {
    return 0;
  }
  return inputs[0].toTensor().numel();
}

class Bench {
 public:
  explicit Bench(const BenchCommand& command)
      : command_(command),
        model_(load_traced_model(command.model)),
        empty_(one_op_model(model_.tensor_parallel_size())),
        cache_length_(cache_length(model_.graph())) {
    add_cases();
  }

  void run() {
    constexpr int kWarmUp = 2;
    for (int round = -kWarmUp; round < command_.rounds; ++round) {
      const auto ranks = static_cast<int>(model_.tensor_parallel_size());
      if (round >= 0 && ranks > 1) {
        capacities_.push_back(core_capacity(ranks));
      }
      for (Case& c : cases_) {
        c.prepare();
        c.call();  // what ran before has left other things in the caches
        c.prepare();
        for (int64_t i = 0; i < c.calls; ++i) {
          const double seconds = seconds_of(c.call);
          if (round >= 0) {
            c.seconds.push_back(seconds);
          }
        }
      }
    }
  }

  std::string report() const {
    const int64_t ranks = model_.tensor_parallel_size();
    std::string text =
        concat(command_.model.folder, " on ", number_of(ranks, "rank"), ", ",
               number_of(command_.rounds, "round"), "; time of a call\n\n");
    text += left_aligned("", kName);
    for (const char* title : {"median", "p10", "p90", "tokens/s"}) {
      text += right_aligned(title, kColumn);
    }
    text += "\n";
    for (const Case& c : cases_) {
      const Spread spread = spread_of(c.seconds);
      text += left_aligned(c.name, kName);
      for (const double seconds : {spread.median, spread.p10, spread.p90}) {
        text += right_aligned(as_time(seconds), kColumn);
      }
      if (c.tokens > 0) {
        text +=
            right_aligned(with_commas(static_cast<int64_t>(
                              static_cast<double>(c.tokens) / spread.median)),
                          kColumn);
      }
      text += "\n";
    }
    return text + caveats();
  }

 private:
  static constexpr size_t kName = 34;
  static constexpr size_t kColumn = 12;

  void add_cases() {
    const auto some = [](const std::vector<int64_t>& sizes) {
      return sizes.empty() ? std::vector<std::optional<int64_t>>{std::nullopt}
                           : std::vector<std::optional<int64_t>>(sizes.begin(),
                                                                 sizes.end());
    };
    std::vector<int64_t> seqs = command_.seqs;
    if (cache_length_ > 0 && seqs.empty()) {
      seqs = usual_lengths(cache_length_);
    }
    for (const auto& batch : some(command_.batches)) {
      for (const auto& seq : some(seqs)) {
        add_call(batch, seq);
      }
      if (cache_length_ > 0) {
        add_decoding(batch);
      }
    }
    cases_.push_back({.name = "empty call: one op on one number",
                      .prepare = [] {},
                      .call = [this] { empty_(one_); },
                      .calls = kEmptyCalls});
  }

  void add_call(std::optional<int64_t> batch, std::optional<int64_t> seq) {
    const auto inputs = example_inputs(model_.graph(), {batch, seq});
    check_arg(cache_length_ < 0 || seq.value_or(0) <= cache_length_,
              "--seq is ", seq.value_or(0), ", but the cache of this model ",
              "holds ", cache_length_, " positions");
    const int64_t tokens = tokens_of(inputs);
    std::string name = cache_length_ > 0 ? "prefill" : "call";
    if (tokens > 0) {
      name += concat(", ", number_of(tokens, "token"));
    } else if (batch.has_value() || seq.has_value()) {
      name += concat(", ", inputs[0].toTensor().sizes());
    }
    cases_.push_back({.name = name,
                      .tokens = tokens,
                      .prepare = [this] { model_.reset_state(); },
                      .call = [this, inputs] { model_.forward(inputs); }});
  }

  /// One token after another, from an empty cache.
  void add_decoding(std::optional<int64_t> batch) {
    const auto inputs = example_inputs(model_.graph(), {batch, 1});
    const int64_t calls = std::min(cache_length_, kDecodingCalls);
    cases_.push_back({.name = concat("decoding, up to position ", calls),
                      .tokens = tokens_of(inputs),
                      .prepare = [this] { model_.reset_state(); },
                      .call = [this, inputs] { model_.forward(inputs); },
                      .calls = calls});
  }

  /// What makes the numbers say less than they seem to.
  std::string caveats() const {
    std::string text;
    const int64_t ranks = model_.tensor_parallel_size();
    if (ranks > usable_cores()) {
      text += concat("\nCaution: ", ranks, " ranks share ",
                     number_of(usable_cores(), "core"),
                     "; more cores make this faster.\n");
    } else if (!capacities_.empty()) {
      const Spread capacity = spread_of(capacities_);
      if (capacity.median < 0.85 * static_cast<double>(ranks)) {
        text += concat("\nCaution: ", ranks, " cores got the arithmetic of ",
                       as_fixed(capacity.median, 2), " done (p10 ",
                       as_fixed(capacity.p10, 2),
                       "): something else ran, or they are threads of one "
                       "core.\n");
      }
    }
    const bool noisy = std::ranges::any_of(cases_, [](const Case& c) {
      const Spread spread = spread_of(c.seconds);
      return c.tokens > 0 && spread.p90 > 2 * spread.p10;
    });
    if (noisy) {
      text +=
          "\nCaution: p90 is far from p10, so the machine is noisy; compare "
          "medians of several runs.\n";
    }
    return text;
  }

  static constexpr int64_t kDecodingCalls = 64;
  static constexpr int64_t kEmptyCalls = 64;

  const BenchCommand& command_;
  trace::TensorParallelModel model_;
  trace::TensorParallelModel empty_;
  int64_t cache_length_;
  const at::Tensor one_ = at::ones({1});
  std::vector<Case> cases_;
  std::vector<double> capacities_;
};

int run_bench(const BenchCommand& command) {
  install_caching_allocator();
  on_launched_ranks(command.model.tp, command.model.backend, [&](bool speaks) {
    Bench bench(command);
    bench.run();
    if (speaks) {
      print(bench.report());
    }
  });
  return kDone;
}

}  // namespace

Command add_bench(CLI::App& program) {
  CLI::App* const app =
      program.add_subcommand("bench", "Time calls of a traced model");
  const auto command = std::make_shared<BenchCommand>();
  add_traced_model_options(*app, command->model);
  const auto add_sizes = [&](const char* name, std::vector<int64_t>& sizes,
                             const char* text) {
    app->add_option(name, sizes, text)
        ->check(at_least(1))
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("N,N");
  };
  add_sizes("--batch", command->batches,
            "Sizes of dim 0 of the inputs, where it varies");
  add_sizes("--seq", command->seqs,
            "Sizes of dim 1 of the inputs, where it varies: lengths of texts");
  app->add_option("--rounds", command->rounds,
                  "Times that each kind of call has its turn")
      ->check(at_least(1))
      ->capture_default_str();
  app->footer(kExamples);
  return {.options = app, .run = [command] { return run_bench(*command); }};
}

}  // namespace colonnade::cli
