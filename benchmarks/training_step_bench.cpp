// benchmarks/training_step_bench.cpp
// A whole training step of a small Llama: forward, backward, clipping, AdamW.
// Two ranks beside one core and beside plain torch on one and two intra-op
// threads. `training_step_bench 2` takes 2 rounds.
#include "benchmarks/contest.h"
#include "colonnade/launch/launch.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/clip_grad_norm.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace ps = parallel_state;
using at::Tensor;
using Clock = std::chrono::steady_clock;

constexpr int64_t kBatch = 4;
constexpr int64_t kSequence = 256;
constexpr int kWarmUps = 1;
constexpr int kSteps = 3;

LlamaOptions options() {
  return LlamaOptions(32000).hidden_size(512).num_layers(4).num_heads(8);
}

/// What turns queries and keys, in torch's ops.
struct PlainRotary {
  explicit PlainRotary(const LlamaOptions& o) {
    const int64_t half = o.hidden_size() / o.num_heads() / 2;
    const Tensor speed =
        at::pow(o.rope_theta(),
                at::arange(half, at::kFloat) / static_cast<double>(-half));
    const Tensor angle = at::outer(at::arange(kSequence, at::kFloat), speed);
    cos = angle.cos().unsqueeze(1);
    sin = angle.sin().unsqueeze(1);
  }

  Tensor operator()(const Tensor& x) const {
    const auto halves = x.chunk(2, -1);
    return at::cat(
        {halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin},
        -1);
  }

  Tensor cos, sin;  // [seq, 1, head_dim / 2]
};

/// The same Llama as a user of torch alone writes it.
struct PlainBlock : torch::nn::Module {
  explicit PlainBlock(const LlamaOptions& o)
      : q(linear("q_proj", o.hidden_size(), o.hidden_size())),
        k(linear("k_proj", o.hidden_size(), o.hidden_size())),
        v(linear("v_proj", o.hidden_size(), o.hidden_size())),
        out(linear("o_proj", o.hidden_size(), o.hidden_size())),
        gate(linear("gate_proj", o.hidden_size(), o.intermediate_size())),
        up(linear("up_proj", o.hidden_size(), o.intermediate_size())),
        down(linear("down_proj", o.intermediate_size(), o.hidden_size())),
        input_norm(register_parameter("input_norm", at::ones(o.hidden_size()))),
        mlp_norm(register_parameter("mlp_norm", at::ones(o.hidden_size()))),
        heads(o.num_heads()) {}

  torch::nn::Linear linear(const char* name, int64_t in, int64_t out_size) {
    return register_module(
        name,
        torch::nn::Linear(torch::nn::LinearOptions(in, out_size).bias(false)));
  }

  static Tensor normalize(const Tensor& x, const Tensor& weight) {
    return at::rms_norm(x, {x.size(-1)}, weight, 1e-5);
  }

  Tensor forward(const Tensor& x, const PlainRotary& rotary) {
    const Tensor h = normalize(x, input_norm);
    const auto split = [&](const Tensor& y) {
      return y.unflatten(-1, {heads, -1});
    };
    const Tensor y = at::scaled_dot_product_attention(
        rotary(split(q(h))).transpose(1, 2),
        rotary(split(k(h))).transpose(1, 2), split(v(h)).transpose(1, 2), {},
        0.0, /*is_causal=*/true);
    const Tensor z = x + out(y.transpose(1, 2).flatten(2));
    const Tensor w = normalize(z, mlp_norm);
    return z + down(at::silu(gate(w)) * up(w));
  }

  torch::nn::Linear q, k, v, out, gate, up, down;
  Tensor input_norm, mlp_norm;
  int64_t heads;
};

struct PlainLlama : torch::nn::Module {
  explicit PlainLlama(const LlamaOptions& o)
      : embedding(register_module(
            "embedding",
            torch::nn::Embedding(o.vocab_size(), o.hidden_size()))),
        norm(register_parameter("norm", at::ones(o.hidden_size()))),
        head(register_module(
            "head", torch::nn::Linear(torch::nn::LinearOptions(o.hidden_size(),
                                                               o.vocab_size())
                                          .bias(false)))),
        rotary(o) {
    for (int64_t i = 0; i < o.num_layers(); ++i) {
      blocks.push_back(register_module("block" + std::to_string(i),
                                       std::make_shared<PlainBlock>(o)));
    }
    const at::NoGradGuard no_grad;
    for (Tensor& parameter : parameters()) {
      if (parameter.dim() == 2) {
        parameter.normal_(0, 0.02);
      }
    }
  }

  Tensor loss(const Tensor& ids, const Tensor& targets) {
    Tensor x = embedding(ids);
    for (const auto& block : blocks) {
      x = block->forward(x, rotary);
    }
    return at::cross_entropy_loss(
        head(PlainBlock::normalize(x, norm)).flatten(0, 1), targets.flatten());
  }

  torch::nn::Embedding embedding;
  Tensor norm;
  torch::nn::Linear head;
  PlainRotary rotary;
  std::vector<std::shared_ptr<PlainBlock>> blocks;
};

/// Where a step's time goes, in seconds.
struct Parts {
  enum Part { kForward, kBackward, kClip, kOptimizer, kParts };
  std::array<double, kParts> seconds{};
};

/// Trains and returns the seconds of a step. The first loss of every contestant
/// is near log(vocabulary) and the last below it, or the program ends.
template <typename Model, typename Clip, typename Wait>
double time_steps(Model& model, Clip clip, Wait wait, Parts* parts = nullptr) {
  torch::optim::AdamW optimizer(model.parameters(), 1e-3);
  const Tensor ids = at::arange(kBatch * (kSequence + 1))
                         .mul_(7919)
                         .remainder_(32000)
                         .view({kBatch, kSequence + 1});
  const Tensor inputs = ids.narrow(1, 0, kSequence).contiguous();
  const Tensor targets = ids.narrow(1, 1, kSequence).contiguous();
  Clock::time_point start;
  Clock::time_point mark;
  const auto lap = [&](Parts::Part part) {
    const Clock::time_point now = Clock::now();
    if (parts != nullptr) {
      parts->seconds[part] +=
          std::chrono::duration<double>(now - mark).count() / kSteps;
    }
    mark = now;
  };
  double first_loss = 0;
  double last_loss = 0;
  for (int step = 0; step < kWarmUps + kSteps; ++step) {
    if (step == kWarmUps) {
      wait();
      start = mark = Clock::now();
      if (parts != nullptr) {
        *parts = {};
      }
    }
    optimizer.zero_grad();
    const Tensor loss = model.loss(inputs, targets);
    lap(Parts::kForward);
    loss.backward();
    lap(Parts::kBackward);
    clip(model.parameters());
    lap(Parts::kClip);
    optimizer.step();
    lap(Parts::kOptimizer);
    last_loss = loss.template item<double>();
    if (step == 0) {
      first_loss = last_loss;
    }
  }
  wait();
  const double seconds =
      std::chrono::duration<double>(Clock::now() - start).count() / kSteps;
  if (std::abs(first_loss - std::log(32000.0)) > 0.5 ||
      !(last_loss < first_loss)) {
    std::fprintf(stderr, "a contestant does not learn: loss %g, then %g\n",
                 first_loss, last_loss);
    std::exit(1);
  }
  return seconds;
}

double time_parallel(int ranks, Parts* parts = nullptr) {
  double seconds = 0;
  run_ranks(ranks, [&](int rank) {
    at::set_num_threads(1);
    ps::initialize_model_parallel(ranks);
    manual_seed(1);
    Llama model(options());
    const GroupPtr group = ps::get_tensor_model_parallel_group();
    const double own = time_steps(
        *model,
        [](const std::vector<Tensor>& parameters) {
          parallel_layers::clip_grad_norm(parameters, 1.0);
        },
        [&] { group->barrier(); }, rank == 0 ? parts : nullptr);
    if (rank == 0) {
      seconds = own;
    }
  });
  return seconds;
}

double time_torch(int threads, Parts* parts = nullptr) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  manual_seed(1);
  PlainLlama model(options());
  const double seconds = time_steps(
      model,
      [](const std::vector<Tensor>& parameters) {
        torch::nn::utils::clip_grad_norm_(parameters, 1.0);
      },
      [] {}, parts);
  at::set_num_threads(before);
  return seconds;
}

void print_parts(const char* name, const Parts& parts) {
  std::printf("  %-36s forward %.0f, backward %.0f, clip %.0f, AdamW %.0f ms\n",
              name, parts.seconds[Parts::kForward] * 1e3,
              parts.seconds[Parts::kBackward] * 1e3,
              parts.seconds[Parts::kClip] * 1e3,
              parts.seconds[Parts::kOptimizer] * 1e3);
}

}  // namespace
}  // namespace colonnade

int main(int argc, char** argv) {
  using colonnade::Parts;
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  Parts one_core, two_ranks, torch_two;
  colonnade::install_caching_allocator();  // for every contestant but the last
  colonnade::bench::contest(
      "training step: Llama, hidden 512, 4 layers, 4 x 256 tokens, vocabulary "
      "32,000, fp32",
      {{"one core (TP=1)",
        [&] { return colonnade::time_parallel(1, &one_core); }},
       {"two ranks (TP=2)",
        [&] { return colonnade::time_parallel(2, &two_ranks); }},
       {"torch::nn, 1 thread", [] { return colonnade::time_torch(1); }},
       {"torch::nn, 2 threads",
        [&] { return colonnade::time_torch(2, &torch_two); }},
       {"torch::nn, 2 threads, its allocator",
        [] {
          colonnade::remove_caching_allocator();
          const double seconds = colonnade::time_torch(2);
          colonnade::install_caching_allocator();
          return seconds;
        }}},
      rounds);
  std::printf("  where the last round's time went:\n");
  colonnade::print_parts("one core (TP=1)", one_core);
  colonnade::print_parts("two ranks (TP=2)", two_ranks);
  colonnade::print_parts("torch::nn, 2 threads", torch_two);
}
