// examples/mlp.cpp
// Trains, clips, saves and loads an MLP on two thread ranks, then traces one.
#include <colonnade/colonnade.h>  // the umbrella

#include <torch/torch.h>

namespace ps = colonnade::parallel_state;
namespace pl = colonnade::parallel_layers;
namespace trace = colonnade::trace;

struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(int64_t hidden)
      : up(pl::ColumnParallelLinearOptions(hidden, 4 * hidden)
               .gather_output(false)),
        down(pl::RowParallelLinearOptions(4 * hidden, hidden)
                 .input_is_parallel(true)) {
    register_module("up", up);
    register_module("down", down);
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return down(torch::gelu(up(x)));
  }
  pl::ColumnParallelLinear up;
  pl::RowParallelLinear down;
};
TORCH_MODULE(Mlp);

int main() {
  colonnade::run_ranks(2, [](int rank) {
    ps::initialize_model_parallel(/*tensor_model_parallel_size=*/2);
    colonnade::manual_seed(1);
    Mlp model(64);
    torch::optim::AdamW optimizer(model->parameters(), 1e-3);
    auto x = torch::ones({2, 8, 64});
    for (int step = 0; step < 10; ++step) {
      optimizer.zero_grad();
      (model(x) - x).pow(2).mean().backward();
      torch::Tensor norm = pl::clip_grad_norm(model->parameters(), 1.0);
      optimizer.step();
      if (rank == 0)
        std::cout << step << " " << norm.item<float>() << "\n";
    }
    colonnade::StateDict state;
    state["model"] = colonnade::state_dict(*model);
    state["optimizer"] = colonnade::state_dict(optimizer, *model);
    state["step"] = int64_t{10};
    pl::save(state, "checkpoint");
    // load(load_dir), load(load_dir, model, model_key = "model",
    // sharded = true): fills the model, returns the rest.
    colonnade::StateDict rest = pl::load("checkpoint", *model);
    colonnade::load_state_dict(optimizer, *model, rest["optimizer"]);
  });

  auto x = torch::ones({2, 8, 64});
  trace::TensorParallelModel model = trace::parallel_model_trace(
      [] { return Mlp(64); }, {x}, /*tp_degree=*/2);
  torch::Tensor y = model(x);
  trace::parallel_model_save(model, "traced");
  auto again = trace::parallel_model_load("traced", /*tp_degree=*/1);
}
