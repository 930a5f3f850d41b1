"""Tensor parallelism: models whose parameters are split over ranks.

    import colonnade
    from colonnade import parallel_layers, parallel_state

    def body(rank):
        parallel_state.initialize_model_parallel(2)
        ...

    colonnade.run_ranks(2, body)
"""

import torch

from ._build_info import torch_version as _built_with


def _check_torch(installed: str, built_with: str) -> None:
    """ImportError unless the C++ sides of both can work together."""
    if installed.split(".")[:2] != built_with.split(".")[:2]:
        raise ImportError(
            f"colonnade: built with torch {built_with}, but torch {installed} "
            f"is installed; install torch {built_with}, or build colonnade "
            f"again beside the torch that is there (pip install .)")


_check_torch(torch.__version__, _built_with)

from ._core import (  # noqa: E402
    CheckpointError,
    CommError,
    Error,
    Group,
    InvalidArgument,
    __version__,
)
from . import (  # noqa: E402
    _torch_backend,
    _torch_random,
    _torch_threads,
    parallel_layers,
    parallel_state,
    trace,
)
from .parallel_layers.checkpointing import (  # noqa: E402
    load_state_dict,
    load_torch,
    state_dict,
)
from .parallelize import parallelize  # noqa: E402
from .random import manual_seed, random_state, set_random_state  # noqa: E402
from .ranks import launch, run_ranks  # noqa: E402

_torch_threads.pass_rank_key_through()
_torch_random.register()
_torch_backend.register()

__all__ = [
    "CheckpointError",
    "CommError",
    "Error",
    "Group",
    "InvalidArgument",
    "__version__",
    "launch",
    "load_state_dict",
    "load_torch",
    "manual_seed",
    "parallel_layers",
    "parallel_state",
    "parallelize",
    "random_state",
    "run_ranks",
    "set_random_state",
    "state_dict",
    "trace",
]
