"""A rank's generators.

Inside a rank, random ops of torch draw from generators of the rank: from
`replicated`, which is seeded alike on every rank, or, inside
`tensor_parallel_random()`, from one that differs on every rank of a
tensor-parallel group. torch's own generator is one for the whole process.
"""

import contextlib
from typing import NamedTuple

import torch

from . import _core, _torch_groups


class RandomState(NamedTuple):
    """Where a rank's CPU generators stand."""

    replicated: torch.Tensor
    tensor_parallel: torch.Tensor


class _ProcessRandom:
    """The `tensor_parallel` generators of a process of torch.distributed, whose
    `replicated` ones are torch's own: their states take turns in those."""

    def __init__(self):
        self._states = None  # made at first use
        self._seed = None

    def seed(self, seed: int) -> None:
        self._states, self._seed = None, seed

    def states(self):
        """Of the CPU's generator, and of the GPU's where there is one."""
        if self._states is None:
            self._states = self._first(self._now())
        return self._states

    def set_cpu_state(self, state: torch.Tensor) -> None:
        self._states = (state.clone(), self.states()[1])

    @contextlib.contextmanager
    def scope(self):
        replicated = self._now()
        self._set(self.states())
        try:
            yield
        finally:
            self._states = self._now()
            self._set(replicated)

    def _first(self, replicated):
        seed = torch.initial_seed() if self._seed is None else self._seed
        torch.manual_seed(_core.tensor_parallel_seed(
            seed & (2**64 - 1), _core.get_tensor_model_parallel_rank())
            & (2**63 - 1))
        states = self._now()
        self._set(replicated)
        return states

    @staticmethod
    def _now():
        on_gpu = (torch.cuda.get_rng_state()
                  if torch.cuda.is_initialized() else None)
        return torch.get_rng_state(), on_gpu

    @staticmethod
    def _set(states) -> None:
        torch.set_rng_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1])


_process = _ProcessRandom()


def manual_seed(seed: int) -> None:
    """Seeds both generators of this rank; outside a rank torch's own."""
    seed &= 2**64 - 1
    _core.manual_seed(seed)
    _process.seed(seed)


def random_state() -> RandomState:
    """What `set_random_state` puts back, for checkpoints."""
    if _torch_groups.group_called("tp") is not None:
        return RandomState(torch.get_rng_state(), _process.states()[0])
    return RandomState(*_core.random_state())


def set_random_state(state: RandomState) -> None:
    """Puts back what `random_state` gave."""
    if _torch_groups.group_called("tp") is not None:
        torch.set_rng_state(state[0])
        _process.set_cpu_state(state[1])
        return
    _core.set_random_state(*state)


@contextlib.contextmanager
def tensor_parallel_random():
    """Within it random ops draw from the rank's `tensor_parallel` generator:
    for dropout on activations that are split over ranks."""
    if _torch_groups.group_called("tp") is not None:
        with _process.scope():
            yield
        return
    scope = _core.TensorParallelRandomScope()
    try:
        yield
    finally:
        del scope
