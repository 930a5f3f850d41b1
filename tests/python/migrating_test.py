"""Every row of docs/migrating.md holds."""

import importlib
import re

import pytest
import torch
from torch import nn

import colonnade
from colonnade import parallel_layers, parallel_state, trace
from page import DOCS
from tensor_parallel import run_tensor_parallel
from torchrun_test import torchrun

PAGE = (DOCS / "migrating.md").read_text()
NOTHING = "—"  # takes the place of a row's call


def rows_of(heading):
    """(theirs, ours, what differs) of the table with that first cell."""
    table = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)",
                      PAGE, re.MULTILINE).group(1)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in table.splitlines()]
    assert all(len(row) == 3 for row in rows), rows
    return [(theirs.strip("`"), ours.strip("`"), rest.strip("|").strip())
            for theirs, ours, rest in rows]


def resolve(path):
    """What a dotted name stands for; modules are imported on the way."""
    name, *rest = path.split(".")
    found = importlib.import_module(name)
    for part in rest:
        name += "." + part
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


def names(folder):
    """What rows speak of, on a rank."""
    torch.manual_seed(1)
    model = nn.Sequential(
        parallel_layers.ColumnParallelLinear(8, 12, gather_output=False),
        parallel_layers.RowParallelLinear(12, 8, input_is_parallel=True))
    x = torch.ones(4, 8, requires_grad=True)
    model(x).sum().backward()
    weight = model[0].weight
    return {
        "colonnade": colonnade, "parallel_layers": parallel_layers,
        "parallel_state": parallel_state, "trace": trace, "torch": torch,
        "nn": nn, "init": nn.init.xavier_normal_, "model": model,
        "layer": model[0], "x": x.detach(), "weight": weight,
        "w": weight.detach().clone(), "folder": folder,
        "attributes": parallel_layers.get_tensor_parallel_attributes(weight),
        "config": None, "sharded_state_dict": {},  # Megatron's
        "logits": torch.randn(4, 6), "target": torch.arange(4),
    }


def evaluate(call, folder):
    def body(rank):
        namespace = names(folder)
        if ".load(" in call:
            parallel_layers.save({"model": namespace["model"].state_dict()},
                                 folder)
        if "initialize_model_parallel" in call:
            parallel_state.destroy_model_parallel()
        return eval(call, namespace)  # noqa: S307

    return run_tensor_parallel(2, body)


@pytest.mark.parametrize("theirs, ours, _", rows_of("neuronx_distributed."))
def test_neuronx_distributed(theirs, ours, _, tmp_path):
    name = "colonnade." + theirs.partition("(")[0]
    if ours == "=":
        assert callable(resolve(name))
        return
    with pytest.raises(AttributeError):  # else the row is to say so
        resolve(name)
    if ours != NOTHING:
        evaluate(ours, tmp_path)


@pytest.mark.parametrize("theirs, ours, _", rows_of("megatron.core."))
def test_megatron(theirs, ours, _, tmp_path):
    renamed = theirs.replace("tensor_parallel.", "parallel_layers.", 1)
    evaluate(renamed if ours == "=" else ours, tmp_path)
    if ours not in ("=", renamed):
        with pytest.raises((AttributeError, NameError, TypeError, ValueError)):
            evaluate(renamed, tmp_path / "theirs")


def test_dtensor():
    """On two processes, where torch's own can be asked."""
    rows = rows_of("style there") + rows_of("call there")
    assert torchrun("gloo", 2, "dtensor.py").count("equal\n") == (
        2 * len(rows))


def test_the_tables_are_read():
    assert len(rows_of("neuronx_distributed.")) > 35
    assert len(rows_of("megatron.core.")) > 25
