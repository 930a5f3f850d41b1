"""Splits models that were not written for this library."""

import re
from collections.abc import Callable

from torch import nn

from . import _core
from .parallel_layers import (
    ColumnParallelLinear,
    ParallelEmbedding,
    RowParallelLinear,
    load,
    move_model_to_device,
    name_layers,
)

# What a plan may say of a module: the layer that takes its place, and its
# options. The names are those of transformers, and plainer ones.
_STYLES: dict[str, tuple[type, dict]] = {
    "colwise": (ColumnParallelLinear, {"gather_output": False}),
    "colwise_gather_output": (ColumnParallelLinear, {"pad": True}),
    "colwise_rep": (ColumnParallelLinear, {"pad": True}),
    "rowwise": (RowParallelLinear, {"input_is_parallel": True}),
    "rowwise_rep": (RowParallelLinear, {}),
    "embedding_rowwise": (ParallelEmbedding, {}),
    "vocabulary": (ParallelEmbedding, {}),
}
_REPLICATED = "replicated"  # as it is

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
    layer, _ = _STYLES[style]
    wanted = nn.Embedding if layer is ParallelEmbedding else nn.Linear
    return isinstance(module, wanted)


def _choose(model: nn.Module, plan: dict[str, str],
            complaints: list[str]) -> dict[str, str]:
    """The style of each module that is to be replaced, by its name."""
    chosen: dict[str, str] = {}
    modules = dict(model.named_modules())
    for pattern, style in plan.items():
        matches = _matcher(pattern)
        found = [name for name in modules if name and matches(name)]
        if not found:
            complaints.append(f"{pattern}: matches no module")
        if style == _REPLICATED:
            continue
        if style not in _STYLES:
            complaints.append(
                f"{pattern}: {style!r} is no style; there are "
                f"{', '.join([*_STYLES, _REPLICATED])}")
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
                weights=None) -> nn.Module:
    """Replaces linear and embedding layers of a model by parallel ones, in
    place, with this rank's part of their weights; returns the model. The model
    may be on the meta device.

    plan     styles by patterns of names, in which * stands for one part:
             "colwise" (the output stays split), "rowwise" (the input is split),
             "colwise_gather_output", "rowwise_rep" (a whole input),
             "vocabulary" (an embedding's rows), "replicated". None: the model's
             own tp_plan, which models of transformers carry
    weights  a folder or file of safetensors, as of Hugging Face: each rank
             reads only its part
    Raises   one InvalidArgument that lists every pattern that matches nothing,
             size that does not divide and number of heads that does not suit;
             the model is then unchanged
    """
    if plan is None:
        plan = _plan_of(model)
    complaints: list[str] = []
    _check_heads(model, complaints)
    chosen = _choose(model, plan, complaints)
    dense = {name: model.get_submodule(name) for name in chosen}
    layers = {}
    for name, style in chosen.items():
        layer, options = _STYLES[style]
        try:
            layers[name] = layer.from_dense(dense[name], **options)
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
