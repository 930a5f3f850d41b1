"""Traced models: one small graph and its weights, which run without the
model's code, at any degree and at sizes that were never traced, in Python and
in C++."""

import torch

from . import _core
from ._core import TensorParallelModel
from .parallel_layers.utils import also_called

__all__ = [
    "TensorParallelModel",
    "parallel_model_load",
    "parallel_model_save",
    "parallel_model_trace",
]


@also_called(example_inputs="inputs")
def parallel_model_trace(func, inputs, tp_degree=1, *, dynamic_dims=None,
                         allow_random=False, second_degree=None,
                         optimize=True) -> TensorParallelModel:
    """Traces a model into one graph for all ranks, sizes and degrees, with its
    weights.

    Outside a rank it makes `tp_degree` thread ranks and keeps them as the ranks
    of the result. Called by the ranks of a launcher it is collective, and
    `tp_degree` must be their tensor-parallel size.

    func           takes nothing and returns a torch.nn.Module with its weights
                   in place, which is put in eval state. Called on every rank,
                   and again on ranks of a second degree
    inputs         what its forward takes: a tensor, or a tuple or list of
                   tensors, ints, floats, bools, strings, and tuples, lists and
                   dicts of them
    dynamic_dims   for each tensor among the inputs the dims whose sizes calls
                   may vary; None: those that the model is found to take at
                   another size
    allow_random   let ops draw random numbers
    second_degree  a degree at which the model is recorded too, so that the
                   graph is valid at others; 0: none
    optimize       change the graph so that it runs faster; results then differ
                   in rounding
    Raises         InvalidArgument names the op, the argument and the values
                   where the model cannot be one graph; what `func` or forward
                   raises on a rank
    """
    if not isinstance(inputs, (tuple, list)):
        inputs = (inputs,)
    return _core.trace_model(func, tuple(inputs), tp_degree,
                             dynamic_dims or [], allow_random, second_degree,
                             optimize)


def parallel_model_save(model, save_dir) -> None:
    """Writes a traced model: a checkpoint whose manifest also names the graph,
    `graph.json`."""
    _core.save_model(model, save_dir)


@also_called(model_dir="load_dir")
def parallel_model_load(load_dir, tp_degree=None, *, namespaces=(),
                        optimize=True, device="cpu") -> TensorParallelModel:
    """Loads a traced model without the code of the model.

    tp_degree   None: the degree at which it was traced
    namespaces  further namespaces of ops that the graph may call, or single
                ops. A file is data from elsewhere: name those you trust
    Raises      CheckpointError names the file that is missing, extra, cut or
                altered, and the op that is not allowed
    """
    return _core.load_traced(load_dir, tp_degree, list(namespaces), optimize,
                             torch.device(device))
