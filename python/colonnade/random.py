"""A rank's generators.

Inside a rank, random ops of torch draw from generators of the rank: from
`replicated`, which is seeded alike on every rank, or, inside
`tensor_parallel_random()`, from one that differs on every rank of a
tensor-parallel group. torch's own generator is one for the whole process.
"""

import contextlib
from typing import NamedTuple

import torch

from . import _core


class RandomState(NamedTuple):
    """Where a rank's CPU generators stand."""

    replicated: torch.Tensor
    tensor_parallel: torch.Tensor


def manual_seed(seed: int) -> None:
    """Seeds both generators of this rank; outside a rank torch's own."""
    _core.manual_seed(seed & (2**64 - 1))


def random_state() -> RandomState:
    """What `set_random_state` puts back, for checkpoints."""
    return RandomState(*_core.random_state())


def set_random_state(state: RandomState) -> None:
    """Puts back what `random_state` gave."""
    _core.set_random_state(*state)


@contextlib.contextmanager
def tensor_parallel_random():
    """Within it random ops draw from the rank's `tensor_parallel` generator:
    for dropout on activations that are split over ranks."""
    scope = _core.TensorParallelRandomScope()
    try:
        yield
    finally:
        del scope
