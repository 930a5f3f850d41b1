"""The differentiable collectives of tensor parallelism.

The backward of each is another of them. `group` is a Group, its name, or None
for the tensor-parallel group; a group of one is the identity.
"""

import torch

from .. import _core
from .utils import also_called, group_name


# What Megatron-LM and neuronx-distributed call these arguments.
_also_called = also_called(input_="x", process_group="group", tp_group="group",
                           tensor_parallel_output_grad="to_model_parallel")


def _call(name: str, x: torch.Tensor, *arguments, group,
          **options) -> torch.Tensor:
    """The function called `name`; inside torch.compile the op of that name,
    which a compiler can see through."""
    if torch.compiler.is_compiling():
        op = getattr(torch.ops.colonnade, name)
        return op(x, *arguments, group_name(group) or "tp", **options)
    return getattr(_core, name)(x, *arguments, group_name(group), **options)


@_also_called
def copy_to_tensor_model_parallel_region(x: torch.Tensor, group=None,
                                         reduce_dtype=None) -> torch.Tensor:
    """Identity; backward an all-reduce, in `reduce_dtype` if given. Where a
    tensor that is equal on every rank enters a sharded region."""
    return _call("copy_to_tensor_model_parallel_region", x, group=group,
                 reduce_dtype=reduce_dtype)


@_also_called
def reduce_from_tensor_model_parallel_region(x: torch.Tensor,
                                             group=None) -> torch.Tensor:
    """All-reduce; backward the identity."""
    return _call("reduce_from_tensor_model_parallel_region", x, group=group)


@_also_called
def scatter_to_tensor_model_parallel_region(x: torch.Tensor, dim: int = -1,
                                            group=None) -> torch.Tensor:
    """This rank's even part of `dim`; backward an all-gather."""
    return _call("scatter_to_tensor_model_parallel_region", x, dim,
                 group=group)


@_also_called
def gather_from_tensor_model_parallel_region(x: torch.Tensor, dim: int = -1,
                                             group=None) -> torch.Tensor:
    """All-gather along `dim`; backward this rank's part."""
    return _call("gather_from_tensor_model_parallel_region", x, dim,
                 group=group)


@_also_called
def scatter_to_sequence_parallel_region(x: torch.Tensor,
                                        sequence_dimension: int = 0,
                                        group=None) -> torch.Tensor:
    """This rank's part of the sequence; backward an all-gather."""
    return _call("scatter_to_sequence_parallel_region", x, sequence_dimension,
                 group=group)


@_also_called
def gather_from_sequence_parallel_region(x: torch.Tensor,
                                         sequence_dimension: int = 0,
                                         to_model_parallel: bool = True,
                                         group=None,
                                         reduce_dtype=None) -> torch.Tensor:
    """All-gather along the sequence; backward a reduce-scatter, in
    `reduce_dtype` if given, where the whole sequence enters a sharded region,
    this rank's part where every rank goes on alike."""
    return _call("gather_from_sequence_parallel_region", x, sequence_dimension,
                 to_model_parallel, group=group, reduce_dtype=reduce_dtype)


@_also_called
def reduce_scatter_to_sequence_parallel_region(x: torch.Tensor,
                                               sequence_dimension: int = 0,
                                               group=None) -> torch.Tensor:
    """Reduce-scatter along the sequence; backward an all-gather."""
    return _call("reduce_scatter_to_sequence_parallel_region", x,
                 sequence_dimension, group=group)
