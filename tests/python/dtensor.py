"""Run by migrating_test.py on two ranks of torch.distributed: the rows of
docs/migrating.md that speak of DTensor, ours against torch's own."""

import copy
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    loss_parallel,
    parallelize_module,
)
from torch.nn import functional as F

import colonnade
from colonnade import parallel_layers, parallel_state
from migrating_test import rows_of

dist.init_process_group("gloo")
rank = dist.get_rank()
mesh = init_device_mesh("cpu", (2,))
parallel_state.initialize_model_parallel(2)


def equal(theirs, ours):
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs)
    else:
        assert theirs == ours or theirs is ours
    os.write(1, b"equal\n")


def plain(output):
    return output.to_local() if isinstance(output, DTensor) else output


def forward_and_backward(model, inputs):
    """The output on this rank, and the whole gradient of the weight."""
    output = plain(model(inputs))
    output.pow(2).sum().backward()
    weight = model.layer.weight
    grad = weight.grad
    if isinstance(grad, DTensor):
        return output, grad.full_tensor()
    own = copy.deepcopy(model.layer)
    own.weight.data.copy_(grad)
    return output, parallel_layers.gather_parameter(own.weight)


class Net(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


for theirs, ours, remark in rows_of("style there"):
    torch.manual_seed(1)
    dense = Net(nn.Embedding(12, 8) if "Embedding" in remark
                else nn.Linear(8, 12))
    inputs = torch.arange(4) if "Embedding" in remark else torch.randn(4, 8)
    if ours == '"rowwise"':  # its input is split
        inputs = inputs.chunk(2, -1)[rank]
    split = parallelize_module(copy.deepcopy(dense), mesh,
                               {"layer": eval(theirs)})  # noqa: S307
    own = colonnade.parallelize(dense, {"layer": eval(ours)})  # noqa: S307
    wanted, wanted_grad = forward_and_backward(split, inputs)
    got, got_grad = forward_and_backward(own, inputs)
    torch.testing.assert_close(got, wanted)
    equal(wanted_grad, got_grad)


def cross_entropy_with_loss_parallel(logits, target):
    with loss_parallel():
        return F.cross_entropy(logits, target).full_tensor()


for theirs, ours, kind in rows_of("call there"):
    torch.manual_seed(1)
    linear = nn.Linear(8, 12)
    layer = parallel_layers.ColumnParallelLinear.from_dense(linear)
    dense = parallelize_module(linear, mesh, ColwiseParallel())
    for module in (dense, layer):
        plain(module(torch.ones(2, 8))).sum().backward()
    target = torch.arange(4)
    x = torch.randn(4, 8) + (0 if kind.strip("`") == "Replicate()" else rank)
    if kind:
        d = DTensor.from_local(x, mesh, [eval(kind.strip("`"))])  # noqa: S307
    equal(eval(theirs), eval(ours))  # noqa: S307

parallel_state.destroy_model_parallel()
dist.destroy_process_group()
