"""Training and all_reduce on torch.distributed over Colonnade and over Gloo.

    python benchmarks/torch_backend.py [--ranks 2] [--rounds 15]

Starts ranks that have both as groups of the same processes; they take turns
within a round. Printed are the median over the rounds of what the slowest rank
took, and in brackets the quartiles.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time

import torch
import torch.distributed as dist
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import colonnade  # noqa: F401  registers the backend

HIDDEN = 256
TOKENS = 64


def _mlp(layers=4):
    torch.manual_seed(0)
    return torch.nn.Sequential(*(
        torch.nn.Sequential(torch.nn.Linear(HIDDEN, 4 * HIDDEN),
                            torch.nn.GELU(),
                            torch.nn.Linear(4 * HIDDEN, HIDDEN))
        for _ in range(layers)))


def _step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(TOKENS, HIDDEN)

    def run():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return run


def _ddp(group):
    return _step(torch.nn.parallel.DistributedDataParallel(
        _mlp(), process_group=group))


def _dtensor(group):
    mesh = dist.DeviceMesh.from_group(group, "cpu")
    plan = {"*.0": ColwiseParallel(), "*.2": RowwiseParallel()}
    return _step(parallelize_module(_mlp(), mesh, plan))


def _all_reduce(n):
    def make(group):
        x = torch.empty(n)
        size = dist.get_world_size()

        def run():
            x.fill_(1)
            dist.all_reduce(x, group=group)
            assert x[-1] == size

        return run

    return make


def _message(n):
    """There and back."""
    def make(group):
        x = torch.ones(n)

        def run():
            if dist.get_rank() == 0:
                dist.send(x, 1, group=group)
                dist.recv(x, 1, group=group)
            elif dist.get_rank() == 1:
                dist.recv(x, 0, group=group)
                dist.send(x, 0, group=group)

        return run

    return make


# What, how often in a round, how it is made on a group.
CONTESTS = [
    ("DDP step, 4 MLPs of 256", 3, _ddp),
    ("DTensor step, 4 MLPs of 256", 3, _dtensor),
    *((f"all_reduce, {name}", times, _all_reduce(n)) for name, times, n in [
        ("8 B", 100, 2), ("4 KiB", 100, 2**10), ("64 KiB", 50, 2**14),
        ("1 MiB", 10, 2**18), ("16 MiB", 2, 2**22)]),
    *((f"send and back, {name}", times, _message(n)) for name, times, n in [
        ("8 B", 50, 2), ("1 MiB", 10, 2**18)]),
]


def _time(run, times, clock_group):
    """Microseconds that the slowest rank took for one run."""
    dist.barrier(clock_group)
    start = time.perf_counter()
    for _ in range(times):
        run()
    own = torch.tensor((time.perf_counter() - start) / times * 1e6)
    dist.all_reduce(own, dist.ReduceOp.MAX, group=clock_group)
    return own.item()


def _rank(rank, ranks, rounds, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank,
                            world_size=ranks)
    clock = dist.new_group(backend="gloo")
    groups = {name: dist.new_group(backend=name)
              for name in ("colonnade", "gloo")}
    for what, times, make in CONTESTS:
        runs = {name: make(group) for name, group in groups.items()}
        taken = {name: [] for name in runs}
        for run in runs.values():
            _time(run, times, clock)  # warms up
        for turn in range(rounds):
            for name in (runs if turn % 2 else reversed(runs)):
                taken[name].append(_time(runs[name], times, clock))
        if rank == 0:
            print(f"{what:28}", *(_text(name, taken[name]) for name in runs),
                  flush=True)
    dist.destroy_process_group()


def _text(name, taken):
    low, median, high = statistics.quantiles(taken, n=4)
    return f"{name} {median:9.1f} us [{low:.1f} {high:.1f}]  "


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [multiprocessing.get_context("spawn").Process(
            target=_rank, args=(rank, options.ranks, options.rounds,
                                f"{folder}/store"))
                 for rank in range(options.ranks)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    return max(process.exitcode for process in ranks)


if __name__ == "__main__":
    raise SystemExit(main())
