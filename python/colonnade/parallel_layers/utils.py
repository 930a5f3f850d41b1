"""What makes a parameter a shard, and what can be done with shards."""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch

from .. import _core, _torch_groups
from .._core import Group, ShardSpec

# The names that Megatron-LM and neuronx-distributed give a parameter's
# attributes, and what a parameter without them has.
_PYTHON_ATTRIBUTES = {
    "tensor_model_parallel": False,
    "partition_dim": -1,
    "partition_stride": 1,
}


_Function = TypeVar("_Function", bound=Callable)


def also_called(**names: str) -> Callable[[_Function], _Function]:
    """Lets a function take keyword arguments by the names that they have in
    Megatron-LM and neuronx-distributed: also_called(theirs="ours")."""
    def decorate(function):
        @functools.wraps(function)
        def call(*args, **arguments):
            if arguments:
                for theirs, ours in names.items():
                    if theirs not in arguments:
                        continue
                    if ours in arguments:
                        raise TypeError(
                            f"{function.__qualname__}: {theirs} and {ours} are "
                            f"two names of one argument; give one")
                    arguments[ours] = arguments.pop(theirs)
            return function(*args, **arguments)

        return call

    return decorate


class TensorParallelAttributes(NamedTuple):
    """What makes a parameter a shard; a parameter without it is replicated."""

    spec: ShardSpec
    group: str  # the name of the group it is split over


def group_name(group) -> str | None:
    """The name by which layers keep a group: a Group, one of torch.distributed,
    or a name; None is the tensor-parallel group."""
    if group is None or isinstance(group, str):
        return group
    return group.name if isinstance(group, Group) else (
        _torch_groups.name_of(group))


def set_tensor_parallel_attributes(
        tensor: torch.Tensor, attributes: TensorParallelAttributes) -> None:
    """Says which part of a whole `tensor` is. It hangs on the tensor: moving a
    module keeps it, a clone or a detached tensor has none. The attributes
    `tensor_model_parallel`, `partition_dim` and `partition_stride` say the
    same in the words of Megatron-LM."""
    spec, group = attributes
    _core.set_attributes(tensor, spec, group)
    tensor.tensor_model_parallel = True
    tensor.partition_dim = spec.dim
    tensor.partition_stride = max(1, len(spec.ranges))


def get_tensor_parallel_attributes(
        tensor: torch.Tensor) -> TensorParallelAttributes | None:
    """None for a replicated tensor."""
    found = _core.get_attributes(tensor)
    return None if found is None else TensorParallelAttributes(*found)


def copy_tensor_parallel_attributes(to: torch.Tensor,
                                    source: torch.Tensor) -> None:
    """Gives `to` the attributes of `source`, if it has any."""
    attributes = get_tensor_parallel_attributes(source)
    if attributes is not None:
        set_tensor_parallel_attributes(to, attributes)


def set_defaults_if_not_set_tensor_model_parallel_attributes(
        tensor: torch.Tensor) -> None:
    """Gives a tensor the attributes of Megatron-LM that it lacks."""
    for name, value in _PYTHON_ATTRIBUTES.items():
        if not hasattr(tensor, name):
            setattr(tensor, name, value)


def gather_parameter(parameter: torch.Tensor) -> torch.Tensor:
    """The whole of a sharded parameter, on every rank; a detached copy of a
    replicated one. Collective over the parameter's group."""
    return _core.gather_parameter(parameter)


def split_parameter(parameter: torch.Tensor, whole: torch.Tensor) -> None:
    """Fills `parameter` with this rank's part of `whole`; a replicated one
    with all of it. No communication."""
    _core.split_parameter(parameter, whole)


def move_model_to_device(model: torch.nn.Module,
                         device: "torch.device | str | int") -> None:
    """Moves a model's parameters, their gradients and its buffers to `device`.

    Tensors keep their identity, so that tensor-parallel attributes, ties and
    an optimizer's references survive; optimizer state does not move. From meta
    memory is allocated and left uninitialised: load or initialise the weights,
    and make the optimizer afterwards.
    """
    if isinstance(device, int):
        device = torch.device("cuda", device)
    _core.move_model_to_device(model, torch.device(device))


def divide(numerator: int, denominator: int) -> int:
    """The quotient of a division without a rest."""
    if numerator % denominator != 0:
        raise _core.InvalidArgument(
            f"divide: {numerator} is not a multiple of {denominator}")
    return numerator // denominator


def split_tensor_along_last_dim(
        tensor: torch.Tensor, num_partitions: int,
        contiguous_split_chunks: bool = False) -> tuple[torch.Tensor, ...]:
    """Even parts of the last dim."""
    size = divide(tensor.size(-1), num_partitions)
    parts = torch.split(tensor, size, dim=-1)
    if contiguous_split_chunks:
        return tuple(part.contiguous() for part in parts)
    return parts
