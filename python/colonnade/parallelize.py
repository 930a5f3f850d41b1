"""Splits models that were not written for this library."""

import functools
import re
from collections.abc import Callable

import torch
from torch import nn

from . import _core
from .parallel_layers import (
    ColumnParallelLinear,
    ParallelEmbedding,
    RowParallelLinear,
    gather_from_sequence_parallel_region,
    load,
    move_model_to_device,
    name_layers,
    scatter_to_sequence_parallel_region,
    sum_gradients_over_sequence,
)

_SEQUENCE = {"sequence_parallel_enabled": True}
_SPLIT_OUTPUT = {"gather_output": False}
_SPLIT_INPUT = {"input_is_parallel": True}

# What a plan may say of a linear or embedding layer: the layer that takes its
# place, and its options. The names are those of transformers, and plainer ones.
_LAYERS: dict[str, tuple[type, dict]] = {
    "colwise": (ColumnParallelLinear, _SPLIT_OUTPUT),
    "colwise_gather_output": (ColumnParallelLinear, {"pad": True}),
    "colwise_rep": (ColumnParallelLinear, {"pad": True}),
    "packed_colwise": (ColumnParallelLinear, {"stride": 2, **_SPLIT_OUTPUT}),
    "colwise_sequence": (ColumnParallelLinear, _SEQUENCE | _SPLIT_OUTPUT),
    "colwise_sequence_gather_output":
        (ColumnParallelLinear, {"pad": True, **_SEQUENCE}),
    "rowwise": (RowParallelLinear, _SPLIT_INPUT),
    "rowwise_rep": (RowParallelLinear, {}),
    "rowwise_split_input": (RowParallelLinear, {}),
    "packed_rowwise": (RowParallelLinear, {"stride": 2, **_SPLIT_INPUT}),
    "rowwise_sequence": (RowParallelLinear, _SEQUENCE | _SPLIT_INPUT),
    "vocabulary": (ParallelEmbedding, {}),
    "embedding_rowwise": (ParallelEmbedding, {}),
    "vocabulary_sequence": (ParallelEmbedding, _SEQUENCE),
    "embedding_colwise":
        (ParallelEmbedding, {"shard_across_embedding": True, "pad": True}),
}
_REPLICATED = ("replicated", "replicate")  # as they are


def _on_first_tensor(f: Callable, module: nn.Module, args, kwargs):
    """The inputs of a module with `f` of the first one that is a tensor."""
    for i, x in enumerate(args):
        if isinstance(x, torch.Tensor):
            return (*args[:i], f(x), *args[i + 1:]), kwargs
    for name, x in kwargs.items():
        if isinstance(x, torch.Tensor):
            return args, {**kwargs, name: f(x)}
    raise _core.InvalidArgument(
        f"parallelize: {type(module).__name__} was called with no tensor, of "
        f"which the plan makes another part of the sequence")


def _scatter_input(module: nn.Module, dim: int) -> None:
    module.register_forward_pre_hook(
        functools.partial(_on_first_tensor, functools.partial(
            scatter_to_sequence_parallel_region, sequence_dimension=dim)),
        with_kwargs=True)


def _gather_input(module: nn.Module, dim: int) -> None:
    # Layers behind it add up the gradients of their inputs by themselves.
    module.register_forward_pre_hook(
        functools.partial(_on_first_tensor, functools.partial(
            gather_from_sequence_parallel_region, sequence_dimension=dim,
            to_model_parallel=False)),
        with_kwargs=True)


def _sum_gradients(module: nn.Module, dim: int) -> None:
    sum_gradients_over_sequence(module)


# What a plan may say of any module, which stays.
_ADDITIONS: dict[str, Callable[[nn.Module, int], None]] = {
    "sequence_parallel": _sum_gradients,
    "replicated_with_grad_allreduce": _sum_gradients,
    "scatter_sequence": _scatter_input,
    "gather_sequence": _gather_input,
}

# Numbers of heads in a model's config: each rank attends with whole ones.
_HEADS = ("num_attention_heads", "num_key_value_heads")


def _matcher(pattern: str) -> Callable:
    """A * stands for one part of a name, between two dots."""
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.compile("[^.]*".join(parts)).fullmatch


def _plan_of(model: nn.Module) -> dict[str, str]:
    plan = getattr(model, "tp_plan", None) or getattr(model, "_tp_plan", None)
    if not plan:
        raise _core.InvalidArgument(
            f"parallelize: {type(model).__name__} carries no tp_plan; give a "
            f"plan, such as {{'layers.*.up': 'colwise', 'layers.*.down': "
            f"'rowwise'}}")
    return plan


def _fits(style: str, module: nn.Module) -> bool:
    if style in _ADDITIONS:
        return True
    layer, _ = _LAYERS[style]
    wanted = nn.Embedding if layer is ParallelEmbedding else nn.Linear
    return isinstance(module, wanted)


def _choose(model: nn.Module, plan: dict[str, str],
            complaints: list[str]) -> dict[str, str]:
    """The style of each module that is not just replicated, by its name."""
    given: dict[str, str] = {}
    chosen: dict[str, str] = {}
    modules = dict(model.named_modules())
    for pattern, style in plan.items():
        matches = _matcher(pattern)
        found = [name for name in modules if name and matches(name)]
        if not found:
            complaints.append(f"{pattern}: matches no module")
        complaints += [
            f"{name}: one pattern makes it {given[name]!r}, and {pattern} "
            f"{style!r}"
            for name in found if given.setdefault(name, style) != style]
        if style in _REPLICATED:
            continue
        if style not in _LAYERS and style not in _ADDITIONS:
            complaints.append(
                f"{pattern}: {style!r} is no style; there are "
                f"{', '.join([*_LAYERS, *_ADDITIONS, *_REPLICATED])}")
            continue
        for name in found:
            if _fits(style, modules[name]):
                chosen[name] = style
            else:
                complaints.append(
                    f"{name}: is a {type(modules[name]).__name__}, which "
                    f"cannot be {style}")
    return chosen


def _check_heads(model: nn.Module, complaints: list[str]) -> None:
    config = getattr(model, "config", None)
    ranks = _core.get_tensor_model_parallel_size()
    for name in _HEADS:
        heads = getattr(config, name, None)
        if isinstance(heads, int) and heads % ranks != 0:
            complaints.append(
                f"config.{name}: {heads} heads do not divide over {ranks} "
                f"ranks")


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


def _share_ties(model: nn.Module, dense: dict[str, nn.Module],
                layers: dict[str, nn.Module], complaints: list[str]) -> None:
    """Layers of modules that had one weight have one again."""
    replaced = {id(module) for module in dense.values()}
    elsewhere = {id(parameter): name for name, module in model.named_modules()
                 if id(module) not in replaced
                 for parameter in module.parameters(recurse=False)}
    first: dict[int, str] = {}
    for name, module in dense.items():
        weight = id(module.weight)
        if weight in elsewhere:
            complaints.append(
                f"{name}: its weight is also that of {elsewhere[weight]}, "
                f"which the plan does not split")
        other = layers[first.setdefault(weight, name)]
        if other is layers[name]:
            continue
        if other._specs["weight"] != layers[name]._specs["weight"]:
            complaints.append(
                f"{name}: its weight is also that of {first[weight]}, which "
                f"the plan splits in another way")
        layers[name].weight = other.weight


def _finish_buffers(model: nn.Module, was_on_meta: list[nn.Module]) -> None:
    """Buffers that no checkpoint has, such as those of rotary embeddings, are
    what the model itself makes of them."""
    for module in was_on_meta:
        init = getattr(model, "_init_weights", None)
        if init is None:
            raise _core.InvalidArgument(
                f"parallelize: {type(module).__name__} has a buffer on the "
                f"meta device that is in no checkpoint; build the model "
                f"elsewhere, or make its buffers there")
        init(module)


def parallelize(model: nn.Module, plan: dict[str, str] | None = None, *,
                weights=None, sequence_dimension: int = 1) -> nn.Module:
    """Replaces linear and embedding layers of a model by parallel ones, in
    place, with this rank's part of their weights; returns the model. The model
    may be on the meta device.

    plan     styles by patterns of names, in which * stands for one part.
             None: the model's own tp_plan, which models of transformers carry.

             of linear layers
               "colwise"                the output stays split
               "colwise_gather_output"  the output is whole
               "rowwise"                the input is split already
               "rowwise_split_input"    the input is whole
               "packed_colwise", "packed_rowwise"  two layers in one (gate, up)
             of embeddings
               "vocabulary"             the rows are split
               "embedding_colwise"      the columns are split
             "replicated"               as it is, whole on every rank
             with activations between layers split along the sequence, too
               "scatter_sequence"       the first tensor that the module takes
                                        is whole; it gets this rank's part
               "gather_sequence"        the other way round
               "sequence_parallel"      computes with a part of the sequence:
                                        gradients of what is not split are
                                        summed over ranks
               "vocabulary_sequence", "rowwise_sequence"  the output is a part
               "colwise_sequence", "colwise_sequence_gather_output"  the input
                                        is a part

             transformers' other names of these are taken as well.
    weights  a folder or file of safetensors, as of Hugging Face: each rank
             reads only its part
    sequence_dimension  of the activations
    Raises   one InvalidArgument that lists every pattern that matches nothing,
             module that patterns disagree on, size that does not divide and
             number of heads that does not suit; the model is then unchanged
    """
    if plan is None:
        plan = _plan_of(model)
    complaints: list[str] = []
    _check_heads(model, complaints)
    chosen = _choose(model, plan, complaints)
    added = {name: _ADDITIONS[style] for name, style in chosen.items()
             if style in _ADDITIONS}
    dense = {name: model.get_submodule(name) for name in chosen
             if name not in added}
    layers = {}
    for name, module in dense.items():
        layer, options = _LAYERS[chosen[name]]
        if "sequence_parallel_enabled" in options:
            options = {**options, "sequence_dimension": sequence_dimension}
        try:
            layers[name] = layer.from_dense(module, **options)
        except _core.InvalidArgument as error:
            complaints.append(f"{name}: {error}")
    if not complaints:
        _share_ties(model, dense, layers, complaints)
    if complaints:
        raise _core.InvalidArgument(
            f"parallelize: the plan does not fit "
            f"{type(model).__name__}:\n  " + "\n  ".join(complaints))
    for name, layer in layers.items():
        _replace(model, name, layer)
    for name, add in added.items():
        add(model.get_submodule(name), sequence_dimension)
    name_layers(model)
    if weights is not None:
        _load_weights(model, weights)
    return model


def _load_weights(model: nn.Module, weights) -> None:
    on_meta = [module for module in model.modules()
               if any(module._buffers[name] is not None
                      and module._buffers[name].is_meta
                      for name in module._non_persistent_buffers_set)]
    move_model_to_device(model, "cpu")
    _finish_buffers(model, on_meta)
    load(weights, model, sharded=False)
