// tests/python/checkpoint_peer.cpp
// The C++ side of checkpoint_test.py: the same two layers and AdamW.
//
// usage: checkpoint_peer load|save FOLDER RANKS
//
//   load   loads FOLDER, takes one more step, and writes FOLDER.more
//   save   takes one step from a seed, and writes FOLDER
#include "colonnade/colonnade.h"

#include <torch/nn/functional/activation.h>
#include <torch/nn/module.h>
#include <torch/optim/adamw.h>
#include <torch/types.h>

#include <iostream>
#include <string>

namespace pl = colonnade::parallel_layers;

struct ModelImpl : torch::nn::Module {
  ModelImpl()
      : up(register_module(
            "up",
            pl::ColumnParallelLinear(
                pl::ColumnParallelLinearOptions(8, 12).gather_output(false)))),
        down(register_module(
            "down",
            pl::RowParallelLinear(
                pl::RowParallelLinearOptions(12, 8).input_is_parallel(true)))) {
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return down(torch::relu(up(x)));
  }
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
};
TORCH_MODULE(Model);

void step(Model& model, torch::optim::AdamW& optimizer) {
  optimizer.zero_grad();
  const auto x = torch::arange(16, torch::kFloat).view({2, 8}) / 16;
  model(x).pow(2).sum().backward();
  optimizer.step();
}

void run(const std::string& command, const std::string& folder) {
  colonnade::manual_seed(1);
  Model model;
  torch::optim::AdamW optimizer(model->parameters(),
                                torch::optim::AdamWOptions(1e-2));
  int64_t steps = 0;
  if (command == "load") {
    colonnade::StateDict rest = pl::load(folder, *model);
    colonnade::load_state_dict(optimizer, *model, rest["optimizer"]);
    steps = rest["step"].to_int();
  }
  step(model, optimizer);
  colonnade::StateDict state;
  state["model"] = colonnade::state_dict(*model);
  state["optimizer"] = colonnade::state_dict(optimizer, *model);
  state["step"] = steps + 1;
  pl::save(state, command == "load" ? folder + ".more" : folder);
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: checkpoint_peer load|save FOLDER RANKS\n";
    return 2;
  }
  try {
    const int ranks = std::stoi(argv[3]);
    colonnade::run_ranks(ranks, [&] {
      colonnade::parallel_state::initialize_model_parallel(ranks);
      run(argv[1], argv[2]);
    });
  } catch (const std::exception& error) {
    std::cerr << "checkpoint_peer: " << error.what() << "\n";
    return 1;
  }
}
