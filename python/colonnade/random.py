"""A rank's generators.

Inside a rank, random ops of torch draw from generators of the rank: from
`replicated`, which is seeded alike on every rank, or, inside
`tensor_parallel_random()`, from one that differs on every rank of a
tensor-parallel group. torch's functions (torch.manual_seed, get_rng_state,
fork_rng) mean these there; torch.default_generator is one for the process.
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
    """The generators of a process of torch.distributed: the states of
    `replicated` and `tensor_parallel` take turns in torch's own."""

    def __init__(self):
        self.in_tensor_parallel = False
        self._resting = None  # of the one that is not current; made at first use
        self._seed = None

    def seed(self, seed: int) -> None:
        """To be called when torch's own have been seeded."""
        self._seed = seed
        self._resting = None
        if self.in_tensor_parallel:
            self._resting = self._now()
            self._set(self._first())

    def cpu_states(self) -> RandomState:
        states = torch.default_generator.get_state(), self._others()[0]
        return RandomState(*self._in_order(states))

    def set_cpu_states(self, state: RandomState) -> None:
        current, resting = self._in_order(state)
        torch.default_generator.set_state(current)
        self._resting = (resting.clone(), self._others()[1])

    @contextlib.contextmanager
    def scope(self, inside: bool):
        """As `draws_from`."""
        if self.in_tensor_parallel == inside:
            yield
            return
        self._take_turns()
        try:
            yield
        finally:
            self._take_turns()

    def _take_turns(self) -> None:
        resting = self._now()
        self._set(self._others())
        self._resting = resting
        self.in_tensor_parallel = not self.in_tensor_parallel

    def _in_order(self, states):
        """The current one's and the other's of what both generators have, and
        the other way."""
        return states[::-1] if self.in_tensor_parallel else states

    def _others(self):
        """Of the generators that are not current, the CPU's and the GPU's where
        there is one."""
        if self._resting is None:
            self._resting = self._first()
        return self._resting

    def _first(self):
        """Where `tensor_parallel` begins."""
        before = self._now()
        seed = torch.initial_seed() if self._seed is None else self._seed
        seed = _core.tensor_parallel_seed(
            seed & (2**64 - 1), _core.get_tensor_model_parallel_rank())
        torch.default_generator.manual_seed(seed & (2**63 - 1))
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed(seed & (2**63 - 1))
        states = self._now()
        self._set(before)
        return states

    @staticmethod
    def _now():
        on_gpu = (torch.cuda.get_rng_state()
                  if torch.cuda.is_initialized() else None)
        return torch.default_generator.get_state(), on_gpu

    @staticmethod
    def _set(states) -> None:
        torch.default_generator.set_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1])


_process = _ProcessRandom()


def manual_seed(seed: int) -> None:
    """Seeds both generators of this rank; outside a rank torch's own."""
    seed &= 2**64 - 1
    _core.manual_seed(seed)
    if not _core.inside_rank():
        _process.seed(seed)


def torch_is_seeded(seed: int) -> None:
    """To be called when a process has seeded torch's generators: a rank of
    torch.distributed begins `tensor_parallel` anew, too."""
    if _torch_groups.group_called("tp") is not None:
        _process.seed(seed)


def random_state() -> RandomState:
    """What `set_random_state` puts back, for checkpoints."""
    if _torch_groups.group_called("tp") is not None:
        return _process.cpu_states()
    return RandomState(*_core.random_state())


def set_random_state(state: RandomState) -> None:
    """Puts back what `random_state` gave."""
    if _torch_groups.group_called("tp") is not None:
        _process.set_cpu_states(state)
        return
    _core.set_random_state(*state)


@contextlib.contextmanager
def draws_from(*, tensor_parallel: bool):
    """Within it random ops draw from that one of the rank's generators, as they
    may do already."""
    if _torch_groups.group_called("tp") is not None:
        with _process.scope(tensor_parallel):
            yield
        return
    scope = _core.TensorParallelRandomScope(tensor_parallel)
    try:
        yield
    finally:
        del scope


def tensor_parallel_random():
    """Within it random ops draw from the rank's `tensor_parallel` generator:
    for dropout on activations that are split over ranks."""
    return draws_from(tensor_parallel=True)


def in_tensor_parallel_random() -> bool:
    """Whether random ops draw from the rank's `tensor_parallel` generator."""
    if _torch_groups.group_called("tp") is not None:
        return _process.in_tensor_parallel
    return _core.in_tensor_parallel_random()
