"""What tests of layers share."""

import torch

import colonnade
from colonnade import parallel_state as ps


def run_tensor_parallel(tp, body, seed=1):
    """Runs `body(rank)` on `tp` thread ranks that are one tensor-parallel
    group; what the ranks returned."""
    def on_rank(rank):
        ps.initialize_model_parallel(tp)
        colonnade.manual_seed(seed)
        return body(rank)

    return colonnade.run_ranks(tp, on_rank)


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
