"""What tests of layers share."""

import os

import pytest
import torch
import torch.distributed as dist

import colonnade
from colonnade import parallel_state as ps

# Tests that use run_tensor_parallel alone also run with torchrun, each process
# a rank (torchrun_test.py).
ON_PROCESSES = "TORCHELASTIC_RUN_ID" in os.environ


def run_tensor_parallel(tp, body, seed=1):
    """Runs `body(rank)` on `tp` ranks that are one tensor-parallel group;
    what the ranks returned."""
    def on_rank(rank):
        ps.initialize_model_parallel(tp)
        colonnade.manual_seed(seed)
        return body(rank)

    if ON_PROCESSES:
        return _run_on_processes(tp, on_rank)
    return colonnade.run_ranks(tp, on_rank)


def _run_on_processes(tp, on_rank):
    if tp != dist.get_world_size():
        pytest.skip(f"the world has {dist.get_world_size()} ranks, not {tp}")
    try:
        own = on_rank(dist.get_rank())
    finally:
        ps.destroy_model_parallel()
    results = [None] * tp
    dist.all_gather_object(results, own)
    return results


def of_first_rank(value):
    """`value` of rank 0, where ranks are processes: a folder that all read."""
    if not ON_PROCESSES:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def shard(whole, dim, rank, size):
    """The rank's part of `whole`, the last ones shorter where it does not
    divide, and padded with zeros."""
    local = -(-whole.size(dim) // size)
    part = whole.narrow(dim, min(rank * local, whole.size(dim)),
                        max(0, min(local, whole.size(dim) - rank * local)))
    missing = local - part.size(dim)
    if missing:
        shape = list(part.shape)
        shape[dim] = missing
        part = torch.cat([part, part.new_zeros(shape)], dim)
    return part


def assert_close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
