"""Gradients of models that are split over ranks."""

import contextlib
from collections.abc import Iterable

import torch

from .. import _core
from .utils import group_name


def clip_grad_norm(parameters, max_norm, norm_type=2, *,
                   error_if_nonfinite: bool = False) -> torch.Tensor:
    """Scales gradients in place so that their total norm is at most
    `max_norm`; returns the total norm before, the same on every rank and equal
    to torch's on the unsharded model. Collective.

    parameters  an iterable of tensors, or one tensor
    norm_type   any p > 0, or 'inf'
    """
    if isinstance(parameters, torch.Tensor):
        parameters = [parameters]
    elif not isinstance(parameters, Iterable):
        raise TypeError("clip_grad_norm: parameters are a tensor or an "
                        f"iterable of tensors, not {type(parameters).__name__}")
    return _core.clip_grad_norm(list(parameters), float(max_norm),
                                float(norm_type), error_if_nonfinite)


def average_gradients(model: torch.nn.Module, group=None) -> None:
    """Averages the gradients of `model` over the data-parallel group.
    Collective; inside `no_sync()` it does nothing."""
    _core.average_gradients(model, group_name(group))


@contextlib.contextmanager
def no_sync():
    """Within it `average_gradients` of this rank does nothing: for all but the
    last micro-batch of a step that accumulates gradients."""
    scope = _core.NoSyncScope()
    try:
        yield
    finally:
        del scope
