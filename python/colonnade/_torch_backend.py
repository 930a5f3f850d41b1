"""The backend "colonnade" of torch.distributed."""

import atexit
import os

import torch.distributed as dist

from . import _core


def _messages(options) -> "dist.Backend | None":
    """What ranks send to each other with: torch's own Gloo, which knows tags
    and any source."""
    if options.group_size == 1:
        return None
    return dist.ProcessGroupGloo(
        dist.PrefixStore("messages", options.store), options.group_rank,
        options.group_size, timeout=options.timeout)


def world_options(store, rank: int, size: int, timeout) -> dict:
    """What the core asks for to make a world of such processes."""
    return {
        "store": store,
        "rank": rank,
        "size": size,
        "timeout": timeout,
        "backend": os.environ.get("COLONNADE_BACKEND", ""),
        "network": os.environ.get("COLONNADE_INTERFACE")
        or os.environ.get("GLOO_SOCKET_IFNAME", ""),
    }


def _make(options, _) -> "dist.Backend":
    """The backend of one group; all its ranks call this."""
    return _core.make_torch_backend(
        **world_options(dist.PrefixStore("colonnade", options.store),
                        options.group_rank, options.group_size,
                        options.timeout),
        name=f"torch {options.group_id}",
        # Of the default group, torch gives an empty list.
        ranks=options.global_ranks_in_group or list(range(options.group_size)),
        messages=_messages(options))


def register() -> None:
    """Makes the name known to `init_process_group`."""
    if dist.is_available():
        dist.Backend.register_backend("colonnade", _make, extended_api=True,
                                      devices=["cpu"])
        # A thread that comes back to an interpreter that is gone aborts.
        atexit.register(_core.end_torch_calls)
