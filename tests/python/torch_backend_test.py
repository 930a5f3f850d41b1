"""The backend "colonnade" of torch.distributed, beside Gloo in the same
processes."""

import datetime
import os
import signal
import time

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

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


def _reductions(n, dtype):
    if n > 1000:
        return R.SUM, R.MAX
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
    for op in _reductions(n, dtype):
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


SIZES = {  # by size of the world
    2: {0: DTYPES, 1: DTYPES, 37: DTYPES,
        2**20 + 3: (torch.float32, torch.bfloat16)},
    3: {0: DTYPES, 37: DTYPES},
    4: {1: DTYPES, 37: DTYPES},
}


def conform(rank):
    size = dist.get_world_size()
    world = list(range(size))
    _check_group(dist.group.WORLD, dist.new_group(backend="gloo"),
                 SIZES[size])
    for ranks in (world[1:], world[::2]):
        ours, gloo = (dist.new_group(ranks, backend=backend)
                      for backend in ("colonnade", "gloo"))
        if rank in ranks:
            _check_group(ours, gloo, {37: DTYPES})
    everything = [None] * size
    dist.all_gather_object(everything, {"rank": rank, "text": "x" * rank})
    assert everything == [{"rank": i, "text": "x" * i} for i in world]
    objects = ["a", {"b": 1}] if rank == 1 else [None, None]
    dist.broadcast_object_list(objects, src=1)
    assert objects == ["a", {"b": 1}]
    return dist.get_backend()


@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_gloo(size):
    assert on_processes(size, conform) == ["colonnade"] * size


def go_further(rank):
    """What Gloo has not."""
    short = torch.tensor([rank, -3], dtype=torch.int16)
    dist.all_reduce(short, R.MIN)
    assert short.tolist() == [0, -3]
    small = torch.full((5,), rank + 0.5).to(torch.float8_e4m3fn)
    both = torch.empty(10, dtype=small.dtype)
    dist.all_gather_into_tensor(both, small)
    assert both.float().tolist() == [0.5] * 5 + [1.5] * 5
    flags = torch.tensor([True, False, rank == 1])
    dist.all_reduce(flags)  # Gloo makes a bool of 2
    assert flags.view(torch.uint8).tolist() == [1, 0, 1]
    # Autograd does not take it for a change of what it has saved.
    y = torch.ones(3, requires_grad=True).exp()
    dist.all_reduce(y.detach())
    y.sum().backward()


def test_goes_further():
    on_processes(2, go_further)


def exchange(rank):
    size = dist.get_world_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    mine = torch.full((70000,), rank)
    theirs = torch.empty_like(mine)
    # All send first.
    works = dist.batch_isend_irecv([dist.P2POp(dist.isend, mine, right),
                                    dist.P2POp(dist.irecv, theirs, left)])
    for work in works:
        work.wait()
    assert (theirs == left).all()
    # Tags, not the order, say what is what; a collective may come between.
    sends = [dist.isend(torch.tensor([tag]), right, tag=tag) for tag in (1, 2)]
    x = torch.ones(1)
    dist.all_reduce(x)
    for tag in (2, 1):
        dist.recv(theirs[:1], left, tag=tag)
        assert theirs[0] == tag
    for work in sends:
        work.wait()
    # From any source.
    if rank == 0:
        sources = {dist.recv(theirs[:1]) for _ in range(size - 1)}
        assert sources == set(range(1, size))
    else:
        dist.send(mine[:1], 0)
    with pytest.raises(colonnade.InvalidArgument,
                       match=r"recv of colonnade \(rank \d\): the tensor "
                       r"of shape \[2, 3\] is not contiguous"):
        dist.recv(torch.empty(3, 2).t(), left)


def test_sends_and_receives():
    on_processes(3, exchange)


def _train(group, wrap, steps=3):
    """The parameters after some steps, whole."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(12, 24), torch.nn.GELU(), torch.nn.Linear(24, 12),
        torch.nn.LayerNorm(12)).double()
    model, is_split_batch = wrap(model, group)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(dist.get_rank(group) if is_split_batch else 99)
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(5, 12, dtype=torch.double)
        torch.nn.functional.mse_loss(model(x), x.flip(-1)).backward()
        optimizer.step()
    return [p.full_tensor() if hasattr(p, "full_tensor") else p
            for p in map(torch.Tensor.detach, model.parameters())]


def _ddp(model, group):
    return torch.nn.parallel.DistributedDataParallel(
        model, process_group=group, bucket_cap_mb=0.001), True


def _fsdp(model, group):
    mesh = dist.DeviceMesh.from_group(group, "cpu")
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh), True


def _tensor_parallel(model, group):
    mesh = dist.DeviceMesh.from_group(group, "cpu")
    return parallelize_module(model, mesh, {
        "0": ColwiseParallel(), "2": RowwiseParallel()}), False


def train(rank):
    ours, gloo = dist.group.WORLD, dist.new_group(backend="gloo")
    size = dist.get_world_size()
    for wrap in (_ddp, _fsdp, _tensor_parallel):
        for own, other in zip(_train(ours, wrap), _train(gloo, wrap),
                              strict=True):
            # Of two ranks' sums there is one order only.
            if size == 2:
                assert torch.equal(own, other), wrap
            torch.testing.assert_close(own, other, rtol=0, atol=1e-12)
    mesh = dist.init_device_mesh("cpu", (size // 2, 2),
                                 mesh_dim_names=("a", "b"))
    rows = distribute_tensor(torch.arange(8 * size).view(2 * size, 4), mesh,
                             [Shard(0), Shard(1)])
    assert torch.equal(rows.full_tensor(),
                       torch.arange(8 * size).view(2 * size, 4))
    columns = rows.redistribute(mesh, [Replicate(), Shard(0)])
    assert columns.to_local().shape == (size, 4)


def train_sparse(rank):
    grads = []
    for group in (dist.group.WORLD, dist.new_group(backend="gloo")):
        torch.manual_seed(0)
        model = torch.nn.parallel.DistributedDataParallel(
            torch.nn.Embedding(10, 4, sparse=True), process_group=group)
        model(torch.tensor([rank, 5, 5])).square().sum().backward()
        grads.append(model.module.weight.grad.to_dense())
    assert torch.equal(*grads)


def test_sums_sparse_gradients():
    on_processes(3, train_sparse)


def call_back(rank):
    """What is called back makes calls, and waits for them."""
    def then(future):
        x = future.value()[0]
        return dist.all_reduce(x, async_op=True).get_future().wait()[0]

    # All are made before any is called back: what callbacks call comes after
    # them on every rank, and is the same whichever of them is first.
    futures = [dist.all_reduce(torch.ones(3), async_op=True).get_future()
               for _ in range(5)]
    for future in [future.then(then).then(lambda future: future.value() + 1)
                   for future in futures]:
        assert future.wait().tolist() == [5, 5, 5]


def test_calls_back():
    on_processes(2, call_back)


@pytest.mark.parametrize("size", [2, 4])
def test_trains_as_gloo_does(size):
    on_processes(size, train)


def refuse(rank):
    x = torch.ones(4)

    def refused(call, match):
        with pytest.raises(colonnade.InvalidArgument, match=match):
            call()

    refused(lambda: dist.all_reduce(x, R.BXOR),
            "all_reduce of group .*: no bitwise xor of float32 tensors")
    refused(lambda: dist.all_reduce(torch.ones(2, dtype=torch.long), R.AVG),
            "all_reduce: no average of int64 tensors; sum, then divide")
    refused(lambda: dist.all_reduce(x.to_sparse(), R.MAX),
            r"all_reduce of colonnade \(rank \d\): sparse tensors can only be "
            "summed")
    refused(lambda: dist.all_gather_into_tensor(torch.empty(9), x),
            r"the output of shape \[9\] has 9 elements, and the input of "
            r"shape \[4\] on 2 ranks makes 8")
    refused(lambda: dist.all_gather([x], x),
            "all_gather of colonnade .*: 1 output list tensors for 2 ranks; "
            "give one a rank")
    refused(lambda: dist.all_to_all_single(torch.empty(5), torch.empty(5)),
            "the 5 rows of the input do not divide over 2 ranks; give splits")
    refused(lambda: dist.all_to_all_single(x, x.clone(), [1, 2], [2, 2]),
            r"the output splits \[1, 2\] do not add up to its 4 rows")
    refused(lambda: dist.all_to_all_single(
        torch.empty(3 + rank), x, [2, 1 + rank], [2, 2]),
            "all_to_all: rank 1 sends 2 elements to rank 0, which expects 1; "
            "make the output splits of a rank the input splits of the others")
    dist.all_reduce(x)  # nothing of that was communicated
    assert x[0] == 2


def test_refuses():
    on_processes(2, refuse)


def _error(call):
    with pytest.raises(colonnade.CommError) as caught:
        call()
    return str(caught.value)


def disagree(rank, async_op):
    def all_reduce():
        work = dist.all_reduce(torch.ones(3 if rank == 1 else 2),
                               async_op=async_op)
        if async_op:
            work.get_future().wait() if rank == 0 else work.wait()

    first = _error(all_reduce)
    assert _error(dist.barrier).startswith(first[:40])  # it stays so
    return first


@pytest.mark.parametrize("async_op", [False, True])
def test_names_who_disagrees(async_op):
    for error in on_processes(3, disagree, async_op):
        assert "rank 1 called all_reduce(float32 [3], sum)" in error
        assert "all_reduce(float32 [2], sum)" in error


def die(rank, how):
    dist.barrier()
    pair = dist.new_group([1, 2])
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "pair":
        return rank == 1 and _error(
            lambda: dist.all_reduce(torch.ones(2), group=pair))
    if how == "message":
        return _error(lambda: dist.recv(torch.ones(2), 2))
    if how == "async":
        return _error(dist.all_reduce(torch.ones(2), async_op=True).wait)
    return _error(lambda: funcol.wait_tensor(
        funcol.all_reduce(torch.ones(2), "sum", dist.group.WORLD)))


@pytest.mark.parametrize("how", ["async", "functional", "pair", "message"])
def test_names_who_died(how):
    errors = on_processes(3, die, how, dies=(2,))[:2]
    for rank, error in enumerate(errors):
        if how == "message":
            assert f"recv of rank {rank} from rank 2: " in error
        elif how == "pair" and rank == 0:
            assert not error  # it is in no call
        elif how == "pair":
            assert "rank 1 (process" in error and "died" in error
            assert 'are, in order, 1, 2 of the default group' in error
        else:
            assert "rank 2 (process" in error and "died" in error


def come_late(rank):
    group = dist.new_group(timeout=datetime.timedelta(seconds=2))
    dist.barrier(group=group)
    if rank == 0:
        time.sleep(3)
        return _error(lambda: dist.barrier(group=group))
    # A limit of wait() alone leaves the call as it is.
    work = dist.barrier(group=group, async_op=True)
    short = _error(lambda: work.wait(datetime.timedelta(milliseconds=50)))
    assert "barrier of rank 1: not done within the 50 ms" in short
    return _error(work.wait)


def test_names_who_is_late():
    for error in on_processes(2, come_late):
        assert "rank 1 waited 2000 ms in barrier(), call 2 of group" in error
        assert "for rank 0, which did not come" in error


def divide(rank):
    halves = [[0, 1], [2, 3]]
    own = dist.group.WORLD.split_group(halves[rank // 2])
    assert own.rank() == rank % 2 and own.size() == 2
    x = torch.tensor([float(rank)])
    own.allreduce([x]).wait()
    assert x.item() == (1, 5)[rank // 2]
    return own._get_backend(torch.device("cpu")).transport


def test_splits():
    assert on_processes(4, divide) == ["shm"] * 4


def mixed(rank):
    x = torch.ones(2)
    dist.all_reduce(x)
    assert x[0] == 2
    group = dist.new_group([0, 1])
    dist.all_reduce(x, group=group)
    backend = group._get_backend(torch.device("cpu"))
    return type(backend).__name__


def test_beside_another_backend_for_another_device():
    assert on_processes(2, mixed, backend="cpu:colonnade,cuda:gloo") == [
        "TorchBackend"] * 2


def over_messages(rank):
    assert dist.group.WORLD._get_backend(
        torch.device("cpu")).transport == "gloo"
    _check_group(dist.group.WORLD, dist.new_group(backend="gloo"),
                 {0: DTYPES, 37: DTYPES})


def test_over_messages():
    on_processes(3, over_messages, environment={"COLONNADE_BACKEND": "gloo"})


def alone(rank):
    x = torch.ones(3)
    dist.all_reduce(x)
    dist.barrier()
    out = torch.empty(3)
    dist.all_gather_into_tensor(out, x)
    dist.all_to_all_single(out, x)
    assert torch.equal(out, torch.ones(3))


def test_alone():
    on_processes(1, alone)


def leave_early(rank):
    """Ends while a call is under way that nobody waits for."""
    works = [dist.all_reduce(torch.ones(2**20), async_op=True)
             for _ in range(20)]
    del works


def test_ends_with_calls_under_way():
    on_processes(2, leave_early)
