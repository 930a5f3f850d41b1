"""Run by torchrun_test.py on four ranks: groups are torch.distributed's."""

import contextlib
import os
import tempfile

import pytest
import torch
import torch.distributed as dist

import colonnade
from colonnade import parallel_layers as pl
from colonnade import parallel_state as ps
from colonnade import trace

dist.init_process_group(os.environ["TEST_BACKEND"])
rank = dist.get_rank()

with pytest.raises(colonnade.InvalidArgument, match="3"):
    ps.initialize_model_parallel(3)
ps.initialize_model_parallel(2)
with pytest.raises(colonnade.InvalidArgument, match="already initialized"):
    ps.initialize_model_parallel(2)

# The getters' groups go into torch's functions.
tensor, data = (ps.get_tensor_model_parallel_group(),
                ps.get_data_parallel_group())
assert isinstance(tensor, dist.ProcessGroup)
assert ps.get_world_group() is dist.group.WORLD
assert dist.get_process_group_ranks(tensor) == [rank // 2 * 2, rank // 2 * 2 + 1]
assert dist.get_process_group_ranks(data) == [rank % 2, rank % 2 + 2]
assert ps.get_tensor_model_parallel_group(as_list=True) == [[0, 1], [2, 3]]
assert ps.get_data_parallel_group(as_list=True) == [[0, 2], [1, 3]]
assert ps.get_tensor_model_parallel_rank() == rank % 2
x = torch.ones(1)
dist.all_reduce(x, group=tensor)
assert x.item() == 2

# Layers take torch's groups too.
outer = ps.new_group("outer", [0, 3])
assert (outer is None) == (rank not in (0, 3))
for group in (tensor, data, outer, "tp"):
    if group is not None:
        colonnade.manual_seed(1)
        layer = pl.ColumnParallelLinear(8, 12,
                                        tensor_model_parallel_group=group)
        torch.manual_seed(1)
        dense = torch.nn.Linear(8, 12)
        torch.testing.assert_close(layer(torch.ones(8)), dense(torch.ones(8)))
strange = dist.new_group([0, 1, 2, 3])
with pytest.raises(colonnade.InvalidArgument, match="none of parallel_state's"):
    pl.RowParallelLinear(8, 8, tensor_model_parallel_group=strange)

# torch.manual_seed goes on to seed; dropout of shards differs over the ranks.
torch.manual_seed(5)
alike = torch.nn.functional.dropout(torch.ones(100))
apart = pl.Dropout()(torch.ones(100))
others = [torch.empty(100) for _ in range(2)]
dist.all_gather(others, apart, group=tensor)
assert not torch.equal(*others)
dist.all_gather(others, alike, group=tensor)
assert torch.equal(*others)
after = torch.rand(1)
torch.manual_seed(5)
torch.nn.functional.dropout(torch.ones(100))
assert torch.equal(torch.rand(1), after)  # the scope left no trace

# torch.manual_seed begins that stream too, and fork_rng keeps it.
def drawn_apart():
    with colonnade.random.tensor_parallel_random():
        return torch.rand(5)


torch.manual_seed(5)
first, second = drawn_apart(), drawn_apart()
torch.manual_seed(5)
assert torch.equal(drawn_apart(), first)
with torch.random.fork_rng():
    torch.manual_seed(6)
    assert not torch.equal(drawn_apart(), second)
assert torch.equal(drawn_apart(), second)

# A scope within a scope draws on.
def draws(inner):
    colonnade.manual_seed(5)
    with colonnade.random.tensor_parallel_random():
        first = torch.rand(3)
        with inner():
            second = torch.rand(3)
        return torch.cat([first, second, torch.rand(3)])


flat = draws(contextlib.nullcontext)
nested = draws(colonnade.random.tensor_parallel_random)
assert torch.equal(flat, nested) and flat.unique().numel() == 9


# A state is the same inside a scope and out; so is what a seed begins.
def both_ways(first, second, start):
    """Draws in one scope, where a state begins, and in another."""
    with first:
        start()
        one = torch.rand(3)
    with second:
        return one, torch.rand(3)


state = colonnade.random_state()
with colonnade.random.tensor_parallel_random():
    assert all(map(torch.equal, colonnade.random_state(), state))
for start in (lambda: colonnade.set_random_state(state),
              lambda: colonnade.manual_seed(6)):
    inside = both_ways(colonnade.random.tensor_parallel_random(),
                       contextlib.nullcontext(), start)
    outside = both_ways(contextlib.nullcontext(),
                        colonnade.random.tensor_parallel_random(), start)
    assert all(map(torch.equal, inside, outside[::-1]))

# Training: gradients are averaged over the replicas.
layer = pl.RowParallelLinear(8, 12)
layer(torch.full((8,), float(rank // 2))).sum().backward()
own = layer.weight.grad.clone()
pl.average_gradients(layer)
dist.all_reduce(own, group=data)
torch.testing.assert_close(layer.weight.grad, own / 2)

# Thread ranks of such a process have groups and generators of their own, and
# leave those of the process alone.
def on_thread(number):
    ps.initialize_model_parallel(2)
    group = ps.get_tensor_model_parallel_group()
    with pytest.raises(colonnade.InvalidArgument, match="none of"):
        pl.RowParallelLinear(8, 8, tensor_model_parallel_group=tensor)
    colonnade.manual_seed(3)
    with colonnade.random.tensor_parallel_random():
        draw = torch.rand(5)
    ps.destroy_model_parallel()
    return group, draw


def draw_beside(other):
    colonnade.manual_seed(9)
    result = other()
    with colonnade.random.tensor_parallel_random():
        return result, torch.rand(5)


_, wanted = draw_beside(lambda: None)
((group, one), (_, two)), drawn = draw_beside(
    lambda: colonnade.run_ranks(2, on_thread))
assert isinstance(group, colonnade.Group) and not torch.equal(one, two)
assert torch.equal(drawn, wanted)
assert ps.get_tensor_model_parallel_group() is tensor
x = torch.ones(1)
dist.all_reduce(x, group=tensor)
assert x.item() == 2

# Tracing and loading are collective, and each process keeps its part.
def func():
    colonnade.manual_seed(1)
    return pl.ColumnParallelLinear(8, 12)


with pytest.raises(colonnade.InvalidArgument, match="tp_degree is 1, but these "
                   "ranks have a tensor-parallel size of 2"):
    trace.parallel_model_trace(func, torch.ones(2, 8))
model = trace.parallel_model_trace(func, torch.ones(2, 8), tp_degree=2)
folder = [tempfile.mkdtemp()]
dist.broadcast_object_list(folder)
trace.parallel_model_save(model, folder[0])
again = trace.parallel_model_load(folder[0])
assert len(again.forward_all_ranks(torch.ones(3, 8))) == 1
torch.manual_seed(1)
wanted = torch.nn.Linear(8, 12)(torch.ones(3, 8))
for traced in (model, again):
    torch.testing.assert_close(traced(torch.ones(3, 8)), wanted)

ps.destroy_model_parallel()
ps.initialize_model_parallel(4)
assert ps.get_tensor_model_parallel_group() is dist.group.WORLD
ps.destroy_model_parallel()
dist.destroy_process_group()
ps.initialize_model_parallel()  # a world of one, as ever
assert ps.get_tensor_model_parallel_size() == 1
os.write(1, b"fine\n")  # at once, since ranks share the output
