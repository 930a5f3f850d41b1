"""Every signature of the guide, with inspect, against the guide's text."""

import importlib
import inspect
import pathlib
import re

import pytest
import torch

GUIDE = (pathlib.Path(__file__).parent / "guide.txt").read_text()
# What the guide's text calls by names of its own.
NAMES = {"init": torch.nn.init, "torch": torch}

SIGNATURES = [
    (module, name, " ".join(arguments.split()))
    for module, name, arguments in re.findall(
        r"neuronx_distributed\.((?:\w+\.)*)(\w+)\(([^)]*)\)", GUIDE)
]


def arguments_of(text):
    """[(name, default)] of a parameter list, inspect's empty where none."""
    result = []
    for item in filter(None, text.replace(" ", "").split(",")):
        name, _, default = item.partition("=")
        result.append((name, eval(default, NAMES) if default  # noqa: S307
                       else inspect.Parameter.empty))
    return result


def test_the_text_is_read():
    assert len(SIGNATURES) == 17


@pytest.mark.parametrize("module, name, text", SIGNATURES,
                         ids=[name for _, name, _ in SIGNATURES])
def test_signature(module, name, text):
    found = getattr(importlib.import_module("colonnade." + module.rstrip(".")),
                    name)
    parameters = list(inspect.signature(found).parameters.values())
    wanted = arguments_of(text)
    ours = [(p.name, p.default) for p in parameters[:len(wanted)]]
    assert ours == wanted
    for parameter in parameters[:len(wanted)]:
        assert parameter.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD
    for parameter in parameters[len(wanted):]:  # what the guide has not
        assert parameter.default is not inspect.Parameter.empty
