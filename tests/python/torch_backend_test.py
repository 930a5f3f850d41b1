"""The backend "colonnade" of torch.distributed, beside Gloo in the same
processes."""

import os
import signal

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol

import colonnade
from processes import on_processes

R = dist.ReduceOp
SUMS = (R.SUM, R.PRODUCT, R.MIN, R.MAX)
BITS = (R.BAND, R.BOR, R.BXOR)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16,
          torch.int64, torch.uint8, torch.bool)


def _values(rank, n, dtype):
    """Small whole numbers, whose sums and products any dtype has exactly."""
    return ((torch.arange(n) + 3 * rank) % 3).to(dtype)


def _reductions(dtype):
    if dtype.is_floating_point:
        return (*SUMS, R.AVG)
    # Gloo adds the bytes of bool.
    return BITS if dtype == torch.bool else (*SUMS, *BITS)


class _Both:
    """Makes each call on two groups of the same ranks, and compares."""

    def __init__(self, ours, gloo):
        self.groups = (ours, gloo)
        self.rank, self.size = dist.get_rank(ours), dist.get_world_size(ours)

    def check(self, what, call):
        ours, gloos = (call(group) for group in self.groups)
        for own, other in zip(ours, gloos, strict=True):
            assert torch.equal(own, other), (what, self.rank, own, other)


def _check_reductions(both, n, dtype):
    for op in _reductions(dtype):
        what = (op, n, dtype)

        def all_reduce(group):
            x = _values(both.rank, n, dtype)
            work = dist.all_reduce(x, op, group=group, async_op=True)
            assert work.wait() and work.is_completed()
            y = _values(both.rank, n, dtype)
            dist.all_reduce(y, op, group=group)
            return x, y

        def reduce(group):
            x = _values(both.rank, n, dtype)
            dist.reduce(x, op=op, group=group, group_dst=both.size - 1)
            return [x] if both.rank == both.size - 1 else []

        def reduce_scatter(group):
            x = _values(both.rank, n * both.size, dtype)
            out, part = torch.empty(2, n, dtype=dtype)
            dist.reduce_scatter_tensor(out, x, op, group=group)
            dist.reduce_scatter(part, list(x.chunk(both.size)) if n else
                                [x] * both.size, op, group=group)
            return out, part

        both.check(("all_reduce", what), all_reduce)
        both.check(("reduce", what), reduce)
        both.check(("reduce_scatter", what), reduce_scatter)


def _check_copies(both, n, dtype):
    def broadcast(group):
        for root in range(both.size):
            x = _values(both.rank, n, dtype)
            dist.broadcast(x, group=group, group_src=root)
            yield x

    def all_gather(group):
        x = _values(both.rank, n, dtype)
        apart = [torch.empty(n, dtype=dtype) for _ in range(both.size)]
        dist.all_gather(apart, x, group=group)
        whole = torch.empty(both.size * n, dtype=dtype)
        dist.all_gather_into_tensor(whole, x, group=group)
        rows = torch.empty(both.size, n, dtype=dtype)  # in one piece
        dist.all_gather(list(rows.unbind()), x, group=group)
        assert torch.equal(rows.flatten(), whole)
        return *apart, whole

    def gather_scatter(group):
        root = both.size - 1
        outs = [torch.empty(n, dtype=dtype) for _ in range(both.size)]
        x = _values(both.rank, n, dtype)
        at_root = outs if both.rank == root else None
        dist.gather(x, at_root, group=group, group_dst=root)
        dist.scatter(x, at_root, group=group, group_src=root)
        return x, *(outs if both.rank == root else [])

    def all_to_all(group):
        out = torch.empty(both.size * n, dtype=dtype)
        dist.all_to_all_single(out, _values(both.rank, both.size * n, dtype),
                               group=group)
        return [out]

    both.check(("broadcast", n, dtype), lambda group: list(broadcast(group)))
    both.check(("all_gather", n, dtype), all_gather)
    both.check(("gather, scatter", n, dtype), gather_scatter)
    both.check(("all_to_all", n, dtype), all_to_all)


def _check_uneven(both):
    def all_to_all(group):
        # Rank i sends i + 2 j rows of two to rank j.
        sends = [both.rank + 2 * j for j in range(both.size)]
        takes = [i + 2 * both.rank for i in range(both.size)]
        x = torch.arange(2 * sum(sends)).view(-1, 2) + 1000 * both.rank
        out = torch.empty(sum(takes), 2, dtype=torch.long)
        dist.all_to_all_single(out, x, takes, sends, group=group)
        return [out]

    both.check("all_to_all, uneven", all_to_all)
    ours = both.groups[0]
    mine = torch.full((both.rank,), both.rank)
    outs = [torch.empty(i, dtype=torch.long) for i in range(both.size)]
    dist.all_gather(outs, mine, group=ours)
    assert [x.tolist() for x in outs] == [[i] * i for i in range(both.size)]
    ins = [torch.full((i,), both.rank) for i in range(both.size)]
    out = torch.empty(both.rank, dtype=torch.long)
    dist.reduce_scatter(out, ins, group=ours)
    assert out.tolist() == [sum(range(both.size))] * both.rank
    # Lists, which Gloo lacks.
    ins = [torch.full((both.rank + j, 2), both.rank) for j in range(both.size)]
    outs = [torch.empty(i + both.rank, 2, dtype=torch.long)
            for i in range(both.size)]
    dist.all_to_all(outs, ins, group=ours)
    assert all((x == i).all() for i, x in enumerate(outs))


def _check_coalesced(both):
    def coalesced(group):
        xs = [_values(both.rank, n, torch.float32) for n in (3, 0, 5)]
        with dist._coalescing_manager(group, async_ops=True) as manager:
            for x in xs:
                dist.all_reduce(x, group=group)
        manager.wait()
        ins = [_values(both.rank, n, torch.float32) for n in (3, 5)]
        name = group.group_name
        outs = list(map(
            funcol.wait_tensor,
            torch.ops._c10d_functional.all_gather_into_tensor_coalesced(
                ins, both.size, name)))
        parts = torch.ops._c10d_functional.reduce_scatter_tensor_coalesced(
            outs, "sum", both.size, name)
        sums = torch.ops._c10d_functional.all_reduce_coalesced(ins, "sum", name)
        return *xs, *map(funcol.wait_tensor, [*parts, *sums]), *outs

    both.check("coalesced", coalesced)


def _check_functional(both):
    def functional(group):
        x = _values(both.rank, 6 * both.size, torch.float64).view(-1, 3)
        results = [
            funcol.all_reduce(x, "avg", group),
            funcol.all_gather_tensor(x, 1, group),
            funcol.reduce_scatter_tensor(x, "sum", 0, group),
            funcol.broadcast(x, 0, group),
            funcol.all_to_all_single(x, None, None, group),
        ]
        return [funcol.wait_tensor(y) for y in results]

    both.check("functional", functional)


def _check_strides(both):
    def strided(group):
        x = _values(both.rank, 12, torch.float32).view(3, 4).t()
        dist.all_reduce(x, group=both.groups[0])
        assert not x.is_contiguous()
        y = _values(both.rank, 12, torch.float32)
        dist.all_reduce(y, group=both.groups[1])
        return [x.t().flatten() if group is both.groups[0] else y]

    both.check("strides", strided)


def _check_group(ours, gloo, sizes):
    both = _Both(ours, gloo)
    for n, dtypes in sizes.items():
        for dtype in dtypes:
            _check_reductions(both, n, dtype)
            _check_copies(both, n, dtype)
    _check_uneven(both)
    _check_coalesced(both)
    _check_functional(both)
    _check_strides(both)


SMALL = {0: DTYPES, 1: DTYPES, 37: DTYPES}
LARGE = {2**20 + 3: (torch.float32, torch.bfloat16)}


def conform(rank, large):
    size = dist.get_world_size()
    world = list(range(size))
    ranks_of_groups = [world, world[1:], world[::2], [rank]]
    for ranks in ranks_of_groups:
        ours, gloo = dist.new_group(ranks), dist.new_group(ranks,
                                                           backend="gloo")
        if rank in ranks:
            _check_group(ours, gloo, SMALL)
    if large:
        _check_group(dist.group.WORLD, dist.new_group(backend="gloo"), LARGE)
    everything = [None] * size
    dist.all_gather_object(everything, {"rank": rank, "text": "x" * rank})
    assert everything == [{"rank": i, "text": "x" * i} for i in world]
    objects = ["a", {"b": 1}] if rank == 1 else [None, None]
    dist.broadcast_object_list(objects, src=1)
    assert objects == ["a", {"b": 1}]
    return dist.get_backend()


@pytest.mark.parametrize("size, large", [(2, True), (3, False), (4, False)])
def test_agrees_with_gloo(size, large):
    assert on_processes(size, conform, large) == ["colonnade"] * size
