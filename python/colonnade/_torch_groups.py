"""Ranks that are processes of torch.distributed: their groups are torch's own,
and Colonnade's run on them."""

import torch
import torch.distributed as dist

from . import _core

# Of this process, by the name that Colonnade gives them.
_groups: dict[str, "dist.ProcessGroup"] = {}
_world: "_core.TorchWorld | None" = None


def is_to_be_used() -> bool:
    """Whether a call on this thread is a rank of torch.distributed."""
    return (dist.is_available() and dist.is_initialized()
            and not _core.inside_rank()
            and (_world is not None or not _core.has_world()))


def _device(group: "dist.ProcessGroup") -> torch.device:
    """The kind of device whose tensors a group exchanges."""
    backend = dist.get_backend(group)
    on_gpu = "nccl" in backend and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _make(ranks: list[int]) -> "dist.ProcessGroup":
    """The group of `ranks`; all ranks of the world call this."""
    if len(ranks) == dist.get_world_size():
        return dist.group.WORLD
    return dist.new_group(ranks)


def initialize(tensor_model_parallel_size: int) -> None:
    """Makes torch's groups, and enters their world. Collective."""
    global _world
    rank, size = dist.get_rank(), dist.get_world_size()
    tensor, data = _core.mesh_groups(size, tensor_model_parallel_size)
    world = _core.TorchWorld(rank, size, _device(dist.group.WORLD))
    world.add(list(range(size)), dist.group.WORLD)
    groups = {"world": dist.group.WORLD}
    for name, all_ranks in (("tp", tensor), ("dp", data)):
        for ranks in all_ranks:
            group = _make(ranks)
            if rank in ranks:
                groups[name] = group
                world.add(ranks, group)
    _core.enter_world(world)
    _world = world
    _groups.update(groups)


def finish() -> None:
    """Forgets the groups, but for those that are the program's own."""
    global _world
    if _world is None:
        return
    _core.leave_world()
    _world = None
    own = {id(group): group for group in _groups.values()
           if group is not dist.group.WORLD}
    _groups.clear()
    if dist.is_initialized():
        for group in own.values():
            dist.destroy_process_group(group)


def new_group(name: str, ranks: list[int]) -> None:
    """Makes a further group, which all ranks of the world call."""
    group = _make(ranks)
    if dist.get_rank() in ranks:
        _world.add(ranks, group)
        _groups[name] = group


def group_called(name: str) -> "dist.ProcessGroup | None":
    """Torch's group of that name; None where ranks are not torch's, as those
    that are threads of such a process."""
    return (_groups.get(name)
            if _world is not None and _core.in_torch_world() else None)


def name_of(group: "dist.ProcessGroup") -> str:
    """What Colonnade calls one of torch's groups."""
    for name, known in _groups.items():
        if known is group:
            return name
    raise _core.InvalidArgument(
        "tensor_model_parallel_group: the torch.distributed group is none of "
        "parallel_state's; make it with parallel_state.new_group")
