"""torch's functions of its generator (manual_seed, get_rng_state, fork_rng, and
what uses them, such as torch.utils.checkpoint) on ranks that have generators of
their own."""

import torch

from . import _core, _torch_groups
from .random import (
    RandomState,
    in_tensor_parallel_random,
    manual_seed,
    random_state,
    set_random_state,
    torch_is_seeded,
)

# A state of a rank's current generator carries the rank's whole state.
_WHOLE = "_colonnade_random_state"


def _has_two() -> bool:
    """Whether this is a rank with a `tensor_parallel` generator."""
    return _core.inside_rank() or _torch_groups.group_called("tp") is not None


def _current() -> torch.Generator:
    """What random ops of this thread draw from."""
    return (_core.current_generator() if _core.inside_rank()
            else torch.default_generator)


class _DefaultGenerator:
    """Stands for torch.default_generator where torch.random calls it: on a rank
    that is a thread it is the rank's current one."""

    def get_state(self) -> torch.Tensor:
        state = _current().get_state()
        if _has_two():
            setattr(state, _WHOLE,
                    (in_tensor_parallel_random(), *random_state()))
        return state

    def set_state(self, state: torch.Tensor) -> None:
        """Also of the rank's other generator, unless `state` is from where that
        one was current."""
        inside, *whole = getattr(state, _WHOLE, (None,))
        if _has_two() and inside == in_tensor_parallel_random():
            set_random_state(RandomState(*whole))
        else:
            _current().set_state(state)

    def manual_seed(self, seed: int) -> torch.Generator:
        """Of a rank both generators."""
        if _core.inside_rank():
            manual_seed(torch.Generator().manual_seed(seed).initial_seed())
        else:
            torch.default_generator.manual_seed(seed)
            torch_is_seeded(torch.default_generator.initial_seed())
        return _current()

    def seed(self) -> int:
        seed = torch.Generator().seed()
        self.manual_seed(seed)
        return seed

    def __getattr__(self, name):
        return getattr(_current(), name)


def register() -> None:
    """Lets torch.random ask for the generator of the rank that calls."""
    torch.random.default_generator = _DefaultGenerator()
