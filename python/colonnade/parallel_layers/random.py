"""A rank's generators, and activation checkpointing that puts them back."""

import contextlib

import torch.utils.checkpoint

from ..random import (
    RandomState,
    manual_seed,
    random_state,
    set_random_state,
    tensor_parallel_random,
)

__all__ = [
    "RandomState",
    "checkpoint",
    "manual_seed",
    "random_state",
    "set_random_state",
    "tensor_parallel_random",
]


@contextlib.contextmanager
def _from(state: RandomState):
    """Draws from `state` on; afterwards the generators go on where they were."""
    before = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(before)


def _contexts():
    state = random_state()
    return contextlib.nullcontext(), _from(state)


def checkpoint(function, *args, **kwargs):
    """torch.utils.checkpoint.checkpoint, with the rank's generators put back
    for the second run of forward, so that dropout drops the same elements.
    (torch saves its own generator, which ranks that are threads do not draw
    from.)"""
    kwargs.setdefault("use_reentrant", False)
    if not kwargs["use_reentrant"]:
        kwargs.setdefault("context_fn", _contexts)
    return torch.utils.checkpoint.checkpoint(function, *args, **kwargs)
