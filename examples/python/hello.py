"""A pair of parallel layers on two ranks, checked against torch.nn, saved, and
traced into a graph that a C++ program can run.

usage: hello.py [FOLDER]
"""
import sys
import tempfile

import torch
from torch import nn

import colonnade
from colonnade import parallel_layers, parallel_state, trace


class Mlp(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.up = parallel_layers.ColumnParallelLinear(
            hidden, 4 * hidden, gather_output=False)
        self.down = parallel_layers.RowParallelLinear(
            4 * hidden, hidden, input_is_parallel=True)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


def train(model, clip):
    """Ten steps; the optimizer, and the last loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.ones(2, 8, 64)
    for _ in range(10):
        optimizer.zero_grad()
        loss = (model(x) - x).pow(2).mean()
        loss.backward()
        clip(model.parameters(), 1.0)
        optimizer.step()
    return optimizer, loss.item()


def train_on_rank(folder):
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=2)
    colonnade.manual_seed(1)
    model = Mlp(64)
    optimizer, loss = train(model, parallel_layers.clip_grad_norm)
    parallel_layers.save(
        {"model": model.state_dict(),
         "optimizer": colonnade.state_dict(optimizer, model), "step": 10},
        f"{folder}/checkpoint")
    return loss


def train_dense():
    """The same in torch.nn: it starts from the same weights."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    return train(model, nn.utils.clip_grad_norm_)[1]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    loss = colonnade.run_ranks(2, lambda: train_on_rank(folder))[0]
    dense_loss = train_dense()
    print(f"loss on two ranks {loss:.6f}, of torch.nn {dense_loss:.6f}")

    def func():  # the model to trace, with its weights in place
        model = Mlp(64)
        parallel_layers.load_model(f"{folder}/checkpoint", model)
        return model

    x = torch.ones(2, 8, 64)
    traced = trace.parallel_model_trace(func, x, tp_degree=2)
    trace.parallel_model_save(traced, f"{folder}/traced")
    again = trace.parallel_model_load(f"{folder}/traced", tp_degree=1)
    difference = (traced(x) - again(x)).abs().max().item()
    print(f"two ranks and one differ by {difference:.1e}")
    assert abs(loss - dense_loss) < 1e-5 and difference < 1e-5


if __name__ == "__main__":
    main()
