"""What torch (2.11) needs so that ranks can be threads."""

import torch

# The dispatch key that a rank's thread includes, for its own generators.
_RANK_KEY = torch._C._dispatch_key_parse("TESTING_ONLY_GenericMode")


def pass_rank_key_through() -> None:
    """Lets torch's higher-order ops (cond, those of torch.compile) run on a
    rank's thread: ops know which keys they are to pass through, these have
    lists of their own."""
    torch._ops._HIGHER_ORDER_OP_DEFAULT_FALLTHROUGH_DISPATCH_KEYS.append(
        _RANK_KEY)
    for op in torch._ops._higher_order_ops.values():
        if not op.has_kernel_for_dispatch_key(_RANK_KEY):
            op.fallthrough(_RANK_KEY)


def prepare() -> None:
    """Sets up, in the caller's thread, what torch would otherwise set up in the
    first thread that compiles, and lose with it: where there is no GPU, the
    next torch.compile on another thread then ends the process."""
    torch._C._ensureCUDADeviceGuardSet()
