"""A rank's generators, and activation checkpointing that puts them back."""

import torch.utils.checkpoint

from ..random import (
    RandomState,
    draws_from,
    in_tensor_parallel_random,
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


class _Repeated:
    """A function each of whose runs draws what the first one did; after a
    further one the generators go on where they were."""

    def __init__(self, function):
        self._function = function
        self._first = None  # where the generators stood, and which was current

    def __call__(self, *args, **kwargs):
        if self._first is None:
            self._first = random_state(), in_tensor_parallel_random()
            return self._function(*args, **kwargs)
        before = random_state()
        state, inside = self._first
        set_random_state(state)
        try:
            with draws_from(tensor_parallel=inside):
                return self._function(*args, **kwargs)
        finally:
            set_random_state(before)


def checkpoint(function, *args, use_reentrant=False, preserve_rng_state=True,
               **kwargs):
    """torch.utils.checkpoint.checkpoint, also where forward and backward run in
    different scopes of `tensor_parallel_random`: the second run of forward
    draws from the generators that the first one drew from, so that dropout
    drops the same elements. GPU generators of ranks that are threads are not
    put back.
    """
    if preserve_rng_state:
        function = _Repeated(function)
    return torch.utils.checkpoint.checkpoint(
        function, *args, use_reentrant=use_reentrant,
        preserve_rng_state=preserve_rng_state, **kwargs)
