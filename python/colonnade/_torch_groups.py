"""Ranks that are processes of torch.distributed: their groups are torch's own,
and Colonnade's run on them, or beside them where torch's run on Colonnade."""

import torch
import torch.distributed as dist

from . import _core, _torch_backend

# Of this process, by the name that Colonnade gives them.
_groups: dict[str, "dist.ProcessGroup"] = {}
_world: "_TorchsWorld | _OwnWorld | None" = None
_world_id = 0  # of what this process has entered
# How many worlds of our own there were: all ranks count alike.
_own_worlds = 0


class _TorchsWorld:
    """Each group of ours makes its calls on one of torch's."""

    def __init__(self, rank: int, size: int):
        self._world = _core.TorchWorld(rank, size, _device(dist.group.WORLD))
        self.add = self._world.add

    def enter(self) -> None:
        _core.enter_world(self._world)


class _OwnWorld:
    """Ours, of the same processes: its groups need no detour."""

    def __init__(self, rank: int, size: int):
        global _own_worlds
        store = dist.distributed_c10d._get_default_store()
        cpu = dist.group.WORLD._get_backend(torch.device("cpu"))
        self._options = _torch_backend.world_options(
            dist.PrefixStore(f"colonnade/world/{_own_worlds}", store), rank,
            size, cpu.timeout)
        _own_worlds += 1

    def add(self, ranks: list[int], group: "dist.ProcessGroup") -> None:
        pass

    def enter(self) -> None:
        _core.enter_own_world(**self._options)


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


def _runs_on_ours(group: "dist.ProcessGroup") -> bool:
    config = dist.BackendConfig(dist.get_backend_config(group))
    return (_device(group).type == "cpu"
            and config.get_device_backend_map().get("cpu") == "colonnade")


def _make(ranks: list[int]) -> "dist.ProcessGroup":
    """The group of `ranks`; all ranks of the world call this."""
    if len(ranks) == dist.get_world_size():
        return dist.group.WORLD
    return dist.new_group(ranks)


def initialize(tensor_model_parallel_size: int) -> None:
    """Makes torch's groups, and enters their world. Collective."""
    global _world, _world_id
    rank, size = dist.get_rank(), dist.get_world_size()
    tensor, data = _core.mesh_groups(size, tensor_model_parallel_size)
    world = (_OwnWorld if _runs_on_ours(dist.group.WORLD)
             else _TorchsWorld)(rank, size)
    world.add(list(range(size)), dist.group.WORLD)
    groups = {"world": dist.group.WORLD}
    for name, all_ranks in (("tp", tensor), ("dp", data)):
        for ranks in all_ranks:
            group = _make(ranks)
            if rank in ranks:
                groups[name] = group
                world.add(ranks, group)
    world.enter()
    _world, _world_id = world, _core.world_id()
    _groups.update(groups)


def _is_entered() -> bool:
    """Whether the caller is in torch's world; a rank that is a thread of such a
    process is not."""
    return _world is not None and _core.world_id() == _world_id


def finish() -> None:
    """Forgets the groups, but for those that are the program's own."""
    global _world
    if not _is_entered():
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
    """Torch's group of that name; None where ranks are not torch's."""
    return _groups.get(name) if _is_entered() else None


def name_of(group: "dist.ProcessGroup") -> str:
    """What Colonnade calls one of torch's groups."""
    for name, known in _groups.items():
        if known is group and _is_entered():
            return name
    raise _core.InvalidArgument(
        "tensor_model_parallel_group: the torch.distributed group is none of "
        "parallel_state's; make it with parallel_state.new_group")
