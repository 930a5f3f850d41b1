"""Gradients of models that are split over ranks."""

import contextlib
import functools
from collections.abc import Iterable

import torch

from .. import _core
from .layers import is_parallel_layer
from .mappings import copy_to_tensor_model_parallel_region
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


def _copy_parameters(group: str | None, module: torch.nn.Module, args) -> None:
    """Puts a module's parameters through the mapping whose backward sums."""
    own = {name: parameter for name, parameter in module._parameters.items()
           if parameter is not None}
    module._own_parameters.append(own)
    for name, parameter in own.items():
        module._parameters[name] = copy_to_tensor_model_parallel_region(
            parameter, group)


def _restore_parameters(module: torch.nn.Module, args, output) -> None:
    if module._own_parameters:  # not where another hook threw before
        module._parameters.update(module._own_parameters.pop())


def sum_gradients_over_sequence(module: torch.nn.Module, group=None) -> None:
    """For a module that computes with this rank's part of the sequence, such as
    a norm between sequence-parallel layers: from now on backward sums the
    gradients of its parameters over the tensor-parallel group, by one small
    all-reduce each. Submodules count; layers that are parallel by themselves
    are left out, and so are modules that do it already. Asked again for
    another group, gradients are summed over both."""
    name = group_name(group)
    key = name or "tp"
    for part in module.modules():
        if (is_parallel_layer(part)
                or key in getattr(part, "_summed_groups", ())
                or all(p is None for p in part._parameters.values())):
            continue
        if not hasattr(part, "_own_parameters"):
            part._own_parameters = []  # those of the calls under way
            part._summed_groups = set()
        part._summed_groups.add(key)
        part.register_forward_pre_hook(
            functools.partial(_copy_parameters, name))
        part.register_forward_hook(_restore_parameters, always_call=True)
