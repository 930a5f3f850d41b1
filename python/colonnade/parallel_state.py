"""How the world's ranks divide into tensor- and data-parallel groups.

Every getter raises InvalidArgument before `initialize_model_parallel`.
"""

from . import _core, _torch_groups


def initialize_model_parallel(tensor_model_parallel_size=1):
    """Divides this rank's world into tensor-parallel groups of neighbours, and
    data-parallel groups of the ranks at one place of each. Collective. Outside
    a rank the world is this thread alone, or, where torch.distributed is
    initialised, its default group: groups are then torch's own.

    Raises InvalidArgument where the size is below 1 or does not divide the
    world size, and at a second call.
    """
    if (_torch_groups.is_to_be_used()
            and not _core.model_parallel_is_initialized()):
        _torch_groups.initialize(tensor_model_parallel_size)
    _core.initialize_model_parallel(tensor_model_parallel_size)


def model_parallel_is_initialized():
    """Whether `initialize_model_parallel` has been called on this rank."""
    return _core.model_parallel_is_initialized()


def destroy_model_parallel():
    """Forgets the groups; `initialize_model_parallel` may be called again."""
    _core.destroy_model_parallel()
    _torch_groups.finish()


def get_data_parallel_size():
    """How many tensor-parallel groups there are."""
    return _core.get_data_parallel_size()


def get_data_parallel_rank():
    """This rank's place in its data-parallel group."""
    return _core.get_data_parallel_rank()


def get_tensor_model_parallel_size():
    """How many ranks hold one copy of the model together."""
    return _core.get_tensor_model_parallel_size()


def get_tensor_model_parallel_rank():
    """This rank's place in its tensor-parallel group."""
    return _core.get_tensor_model_parallel_rank()


def _group(name, ours):
    """Torch's group where the ranks are torch.distributed's, else ours."""
    own = ours()  # raises before initialize_model_parallel
    return _torch_groups.group_called(name) or own


def get_data_parallel_group(as_list=False):
    """This rank's data-parallel group; as a list the world ranks of every
    such group."""
    if as_list:
        return _core.get_data_parallel_group_as_list()
    return _group("dp", _core.get_data_parallel_group)


def get_tensor_model_parallel_group(as_list=False):
    """This rank's tensor-parallel group; as a list the world ranks of every
    such group."""
    if as_list:
        return _core.get_tensor_model_parallel_group_as_list()
    return _group("tp", _core.get_tensor_model_parallel_group)


def get_world_group():
    """The group of all ranks."""
    return _group("world", _core.get_world_group)


def new_group(name, ranks):
    """A further group of this world's `ranks` (ascending), for layers that
    split over other ranks. Every member calls it, and with torch.distributed
    every rank; a rank that is not a member gets None."""
    if _torch_groups.group_called("world") is not None:
        _torch_groups.new_group(name, ranks)
    own = _core.new_group(name, ranks)
    return _torch_groups.group_called(name) or own


def get_tensor_model_parallel_src_rank():
    """The world rank of the first member of this rank's group."""
    return _core.get_tensor_model_parallel_src_rank()


def get_data_parallel_src_rank():
    """The world rank of the first member of this rank's group."""
    return _core.get_data_parallel_src_rank()


def move_model_to_device(model, device):
    """As colonnade.parallel_layers.move_model_to_device."""
    from .parallel_layers.utils import move_model_to_device as move

    move(model, device)
