"""The loss over a vocabulary that is split over ranks."""

import torch

from .. import _core
from .utils import also_called, group_name


@also_called(vocab_parallel_logits="logits", tp_group="group",
             process_group="group")
def parallel_cross_entropy(logits: torch.Tensor, target: torch.Tensor,
                           label_smoothing: float = 0.0,
                           ignore_index: int = -100, *,
                           vocab_size: int = -1,
                           group=None) -> torch.Tensor:
    """The cross entropy of each token. Equals torch's with reduction "none" on
    whole logits; logits are never gathered.

    logits      [..., vocabulary of this rank]
    target      [...], whole vocabulary indices, equal on every rank
    vocab_size  whole, where the last ranks hold padding
    Returns     [...], fp32 (fp64 for doubles), equal bits on every rank
    Raises      InvalidArgument with the target and the limit where one is
                outside the vocabulary and not `ignore_index`
    """
    if torch.compiler.is_compiling():
        return torch.ops.colonnade.parallel_cross_entropy(
            logits, target, label_smoothing, ignore_index, vocab_size,
            group_name(group) or "tp")[0]
    return _core.parallel_cross_entropy(
        logits, target, label_smoothing, ignore_index, vocab_size,
        group_name(group))
