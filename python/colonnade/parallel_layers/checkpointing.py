"""Checkpoints: safetensors and a manifest, readable at any degree.

Every function is collective, and returns when all ranks are done.
"""

import pathlib
from typing import Any

import torch
from torch import nn

from .. import _core
from .._core import CheckpointError, InvalidArgument
from .utils import also_called, copy_tensor_parallel_attributes

# Options of torch's optimizers that say how to compute, not what.
_EXECUTION_OPTIONS = {"foreach", "fused", "capturable", "differentiable"}
# And those that other libraries do not have, where they change nothing.
_NEUTRAL_OPTIONS = {"maximize": False, "decoupled_weight_decay": True}


@also_called(checkpoint="state_dict", output_dir="save_dir")
def save(state_dict, save_dir):
    """Writes a nested dict of tensors, numbers, strings, bools, None, lists,
    tuples and dicts: `manifest.json`, and each tensor-parallel rank's shards in
    `tp_rank_<i>`. Ranks of data-parallel rank 0 write. The manifest is renamed
    into place last, so a save that dies leaves the checkpoint before it whole.

    Raises InvalidArgument naming the key and type of anything else, and a
    value that differs between ranks; CheckpointError where a write fails. An
    error on one rank is raised on all.
    """
    if not isinstance(state_dict, dict):
        raise InvalidArgument("save: the state dict is of type "
                              f"{type(state_dict).__name__}; give a dict")
    _core.save(state_dict, save_dir)


@also_called(chkpt_path="load_dir")
def load(load_dir, model=None, model_key='model', sharded=True):
    """This rank's part of the checkpoint in `load_dir`, at any degree where the
    split is even. With a `model`, fills it from the entry `model_key` and
    returns the others; no parameter is changed until every rank has succeeded.

    sharded  False fills `model` from files that know nothing of ranks:
             safetensors (one file, or a folder with one or with an index), or
             a file of torch.save; `model_key` does not apply
    Raises   CheckpointError names the file or tensor that is missing, cut,
             altered or from another save; one InvalidArgument lists all
             missing, unexpected and mismatched keys with both shapes
    """
    if model is None:
        if not sharded:
            raise InvalidArgument(
                "load: sharded=False needs a model to fill; give model=")
        return _core.load(load_dir)
    if not sharded and _is_torch_file(load_dir):
        _load_torch_file(load_dir, model)
        return {}
    return _core.load_into(load_dir, model, model_key, sharded)


def load_model(load_dir, model: nn.Module, model_key: str = "model") -> None:
    """Fills `model` as `load` does, and reads nothing else of the checkpoint."""
    _core.load_model(load_dir, model, model_key)


def load_values(load_dir) -> dict:
    """The checkpoint's dict with None for every tensor: what it takes to build
    the model that `load` then fills. Not collective, needs no ranks."""
    return _core.load_values(load_dir)


def save_unsharded(model: nn.Module, save_dir) -> None:
    """Writes the whole model as plain safetensors, `model.safetensors`, under
    names that any reader knows."""
    _core.save_unsharded(model, save_dir)


def load_torch(path) -> dict:
    """The state dict in a file of torch.save, read with weights_only: for
    models that were trained elsewhere. Tensors are mapped, not read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True,
                          mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"load_torch: there is no file {path}") from None
    except Exception as error:
        raise CheckpointError(
            f"load_torch: {path} is not a file of torch.save that holds only "
            f"tensors and plain values: {error}") from error


def _is_torch_file(path) -> bool:
    path = pathlib.Path(path)
    return (path.suffix in (".pt", ".pth", ".bin", ".ckpt")
            and not path.is_dir())


def _load_torch_file(path, model: nn.Module) -> None:
    """Fills a model from whole tensors, once every rank can."""
    wholes = {}

    def read():
        wholes.update(_fitting(load_torch(path), model, f"load: {path}"))

    _core.load_together(read)
    for name, tensor in _named_tensors(model).items():
        _core.split_parameter(tensor, wholes[name].to(tensor.dtype))


def _whole_shape(tensor: torch.Tensor) -> list[int]:
    attributes = _core.get_attributes(tensor)
    return (list(tensor.shape) if attributes is None
            else attributes[0].whole_shape(list(tensor.shape)))


def _named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict(
        keep_vars=True).items() if isinstance(tensor, torch.Tensor)}


def _fitting(wholes, model: nn.Module, subject: str) -> dict:
    """The whole tensors of a model; InvalidArgument says all that does not
    fit."""
    if not isinstance(wholes, dict):
        raise InvalidArgument(f"{subject} holds a {type(wholes).__name__}; "
                              f"expected a module's state dict")
    tensors = _named_tensors(model)
    complaints = [f"\n  missing: {name}, {_whole_shape(tensor)} in the model"
                  for name, tensor in tensors.items() if name not in wholes]
    complaints += [f"\n  unexpected: {name}, {_shown(wholes[name])} to load"
                   for name in wholes if name not in tensors]
    complaints += [
        f"\n  mismatched: {name}, {_whole_shape(tensor)} in the model, but "
        f"{_shown(wholes[name])} to load"
        for name, tensor in tensors.items() if name in wholes
        and _shown(wholes[name]) != _whole_shape(tensor)]
    if complaints:
        raise InvalidArgument(f"{subject} does not fit the model:"
                              + "".join(complaints))
    return wholes


def _shown(value) -> "list[int] | str":
    return (list(value.shape) if isinstance(value, torch.Tensor)
            else type(value).__name__)


def _names_of(optimizer: torch.optim.Optimizer, model: nn.Module,
              subject: str) -> list[list[str]]:
    """The names of each group's parameters."""
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        names.setdefault(id(parameter), name)
    groups = []
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            if id(parameter) not in names:
                raise InvalidArgument(
                    f"{subject}: parameter {place} of the optimizer's group "
                    f"{number}, of shape {list(parameter.shape)}, is not one "
                    f"of the module's")
        groups.append([names[id(p)] for p in group["params"]])
    return groups


def _saved_state(state: dict, parameter: torch.Tensor) -> dict:
    saved = {}
    for key, value in state.items():
        if key == "step" and isinstance(value, torch.Tensor):
            value = int(value.item())  # as C++ counts steps
        if isinstance(value, torch.Tensor):
            value = value.detach()
            if value.shape == parameter.shape:
                copy_tensor_parallel_attributes(value, parameter)
        saved[key] = value
    return saved


def state_dict(of: "nn.Module | torch.optim.Optimizer",
               model: nn.Module | None = None) -> dict[str, Any]:
    """A module's state dict; an optimizer's under the names of `model`'s
    parameters, which loads at any degree and in C++:
    {"state": {name: {...}}, "param_groups": [{..., "params": [names]}]}.
    """
    if isinstance(of, nn.Module):
        return of.state_dict()
    if model is None:
        raise InvalidArgument(
            "state_dict: an optimizer's state goes by the names of a model's "
            "parameters; call state_dict(optimizer, model)")
    names = _names_of(of, model, "state_dict")
    states, groups = {}, []
    for group, group_names in zip(of.param_groups, names):
        for parameter, name in zip(group["params"], group_names):
            if parameter in of.state:
                states[name] = _saved_state(of.state[parameter], parameter)
        options = {key: value for key, value in group.items()
                   if key not in _EXECUTION_OPTIONS and key != "params"
                   and _NEUTRAL_OPTIONS.get(key) != value}
        groups.append({**options, "params": group_names})
    return {"state": states, "param_groups": groups}


def load_state_dict(to: "nn.Module | torch.optim.Optimizer",
                    *rest) -> None:
    """Puts back what `state_dict` gave: load_state_dict(module, state), or
    load_state_dict(optimizer, module, state)."""
    if isinstance(to, nn.Module):
        to.load_state_dict(*rest)
        return
    model, state = rest
    names = _names_of(to, model, "load_state_dict")
    saved_groups = state["param_groups"]
    saved_names = [list(group["params"]) for group in saved_groups]
    if saved_names != names:
        raise InvalidArgument(
            f"load_state_dict: the optimizer's groups hold {names}, the saved "
            f"ones {saved_names}")
    numbers: dict[str, int] = {}
    for group in names:
        for name in group:
            numbers[name] = len(numbers)
    unknown = [name for name in state["state"] if name not in numbers]
    if unknown:
        raise InvalidArgument(
            f"load_state_dict: state of {', '.join(unknown)}, which the "
            f"optimizer does not have")
    groups = []
    for own, saved in zip(to.param_groups, saved_groups):
        kept = {key: value for key, value in own.items() if key != "params"}
        groups.append({**kept, **saved,
                       "params": [numbers[n] for n in saved["params"]]})
    to.load_state_dict({
        "state": {numbers[name]: _loaded_state(value)
                  for name, value in state["state"].items()},
        "param_groups": groups,
    })


def _loaded_state(state: dict) -> dict:
    loaded = dict(state)
    if isinstance(loaded.get("step"), int):
        loaded["step"] = torch.tensor(float(loaded["step"]))
    return loaded
