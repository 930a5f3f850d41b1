// A rank of faults.py: trains a small model and goes wrong on request.
//
//   fault_rank FAULT RANK STEP   RANK does FAULT after STEP steps; without a
//                                fault, all ranks take STEP steps
//
// What it prints, a line each, with nanoseconds of the steady clock:
//
//   running             the third step is done
//   fault NS NUMBER     the fault comes next; NUMBER calls of the group are
//   done error NS TEXT       the CommError of this rank call NUMBER TEXT    the
//   call of the group that it had begun last
#include "colonnade/comm/call_site.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/name_layers.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"

#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace colonnade {
namespace {

namespace ps = parallel_state;

struct Fault {
  std::string name;
  int rank;
  int step;
};

int64_t now_ns() {
  return std::chrono::nanoseconds(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

/// What every rank does after a step.
struct Metrics {
  explicit Metrics(Group& its_group) : group(its_group) {}

  void sum(const at::TensorOptions& options = at::kFloat, int64_t n = 3,
           ReduceOp op = ReduceOp::kSum) const {
    at::Tensor x = at::ones({n}, options);
    group.all_reduce(x, op);
  }
  void tell(int root = 0) const {
    at::Tensor x = at::ones({2});
    group.broadcast(x, root);
  }

  Group& group;
};

/// What each fault does in place of `sum(); tell();`.
const std::map<std::string, std::function<void(const Metrics&)>>& faults() {
  static const std::map<std::string, std::function<void(const Metrics&)>> all =
      {
          {"throw",
           [](const Metrics&) { throw std::runtime_error("the cause"); }},
          {"exit", [](const Metrics&) { std::exit(0); }},
          {"crash", [](const Metrics&) { raise(SIGSEGV); }},
          {"kill", [](const Metrics&) { raise(SIGKILL); }},
          {"stop", [](const Metrics&) { raise(SIGSTOP); }},
          {"shape", [](const Metrics& m) { m.sum(at::kFloat, 4); }},
          {"dtype", [](const Metrics& m) { m.sum(at::kDouble); }},
          {"reduction",
           [](const Metrics& m) { m.sum(at::kFloat, 3, ReduceOp::kMax); }},
          {"collective", [](const Metrics& m) { m.group.barrier(); }},
          {"root",
           [](const Metrics& m) {
             m.sum();
             m.tell(1);
           }},
          {"order",
           [](const Metrics& m) {
             m.tell();
             m.sum();
           }},
          {"too few", [](const Metrics& m) { m.tell(); }},
          {"too many",
           [](const Metrics& m) {
             m.sum();
             m.tell();
             m.tell();
           }},
          {"link",
           [](const Metrics& m) {
             if (std::system(TWO_HOSTS " --cut") != 0) {
               throw std::runtime_error("cannot cut the link");
             }
             m.sum();
           }},
      };
  return all;
}

void train(int rank, const Fault& fault) {
  const GroupPtr group = ps::get_tensor_model_parallel_group();
  manual_seed(1);
  Llama model(LlamaOptions(96).hidden_size(48).num_layers(2).num_heads(12));
  parallel_layers::name_layers(*model);
  torch::optim::AdamW optimizer(model->parameters(), 1e-3);
  const at::Tensor ids = at::arange(2 * 17).remainder(96).view({2, 17});
  for (int step = 1; fault.name != "none" || step <= fault.step; ++step) {
    optimizer.zero_grad();
    model->loss(ids.narrow(1, 0, 16), ids.narrow(1, 1, 16)).backward();
    optimizer.step();
    const Metrics metrics(*group);
    const CallSiteScope site(CallSite("metrics"));
    if (rank == fault.rank && step == fault.step && fault.name != "none") {
      say(concat("fault ", now_ns(), ' ', group->calls().begun()));
      if (fault.name == "return") {
        return;
      }
      faults().at(fault.name)(metrics);
    } else {
      metrics.sum();
      metrics.tell();
    }
    if (step == 3) {
      say("running");
    }
  }
}

int run(const Fault& fault) {
  try {
    launch([&](int rank) {
      ps::initialize_model_parallel(RankContext::current()->world()->size());
      try {
        train(rank, fault);
      } catch (const CommError& error) {
        const int64_t now = now_ns();
        const CallRecord& last =
            ps::get_tensor_model_parallel_group()->calls().latest();
        say(concat("error ", now, ' ', error.what()));
        say(concat("call ", last.number, ' ', to_string(last.call)));
        throw;
      }
    });
  } catch (const std::exception& error) {
    say(concat("ends: ", error.what()));
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace colonnade

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: fault_rank FAULT RANK STEP\n", stderr);
    return 2;
  }
  return colonnade::run({argv[1], std::atoi(argv[2]), std::atoi(argv[3])});
}
