"""torch.library.opcheck on every op: schemas tell the truth, autograd is
registered where it must be, and compilers can trace them."""

import pytest
import torch

import colonnade  # noqa: F401
from tensor_parallel import run_tensor_parallel

ops = torch.ops.colonnade


def x(*shape, grad=True):
    generator = torch.Generator().manual_seed(1)
    made = torch.randn(*shape, generator=generator)
    return made.requires_grad_(grad)


IDS = torch.tensor([[0, 3, 10], [5, 3, 1]])
LENGTH = torch.zeros((), dtype=torch.int64)

# name: the arguments of a call; a group of one, so that nothing waits.
CALLS = {
    "copy_to_tensor_model_parallel_region": lambda: (x(3, 4), "tp"),
    "reduce_from_tensor_model_parallel_region": lambda: (x(3, 4), "tp"),
    "reduce_from_tensor_model_parallel_region_":
        lambda: (x(3, 4, grad=False), "tp"),
    "scatter_to_tensor_model_parallel_region": lambda: (x(3, 4), -1, "tp"),
    "gather_from_tensor_model_parallel_region": lambda: (x(3, 4), -1, "tp"),
    "scatter_to_sequence_parallel_region": lambda: (x(3, 4), 0, "tp"),
    "gather_from_sequence_parallel_region": lambda: (x(3, 4), 0, True, "tp"),
    "reduce_scatter_to_sequence_parallel_region": lambda: (x(3, 4), 0, "tp"),
    "zero_padding": lambda: (x(3, 4), -1, 3, "tp"),
    "vocab_embedding": lambda: (x(11, 4), IDS, 11, None, True, "tp"),
    "vocab_embedding_backward":
        lambda: (x(2, 3, 4, grad=False), IDS, 11, 11, 3, False, "tp"),
    "column_parallel_linear":
        lambda: (x(2, 3, 8), x(12, 8), x(12), True, False, 0, 12, [],
                 None, "tp"),
    "row_parallel_linear":
        lambda: (x(2, 3, 8), x(12, 8), x(12), False, False, 0, True, None, 8,
                 [], "tp"),
    "parallel_embedding":
        lambda: (IDS, x(11, 4), 11, None, False, 0, False, 4, None, "tp"),
    "parallel_cross_entropy":
        lambda: (x(2, 3, 11), IDS, 0.1, 3, -1, "tp"),
    "parallel_cross_entropy_backward":
        lambda: (x(2, 3, grad=False), x(2, 3, 11, grad=False), IDS,
                 x(2, 6, grad=False).abs() + 1, 0.1, 3, 11, "tp"),
    "linear": lambda: (x(2, 8), x(12, 8), x(12)),
    "key_value_heads": lambda: (x(2, 3, 8), 4, 2, 4, "tp"),
    "cache_positions": lambda: (LENGTH, IDS, torch.zeros(2, 2, 8, 4)),
    "cached_attention":
        lambda: (x(2, 2, 3, 4, grad=False), x(2, 2, 3, 4, grad=False),
                 x(2, 2, 3, 4, grad=False), torch.zeros(2, 2, 8, 4),
                 torch.zeros(2, 2, 8, 4), LENGTH),
}


def names():
    return sorted({schema.name.split("::")[1]
                   for schema in torch._C._jit_get_all_schemas()
                   if schema.name.startswith("colonnade::")})


def test_every_op_is_here():
    assert names() == sorted(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_opcheck(name):
    def body(rank):
        torch.library.opcheck(getattr(ops, name).default, CALLS[name]())

    run_tensor_parallel(1, body)
