"""What the contract of the API promises and no other file here tests, in its
order: ranks, parallel_state, parallel_layers, checkpoints, clipping, tracing."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

import colonnade
from colonnade import parallel_layers as pl
from colonnade import parallel_state as ps
from colonnade import trace
from tensor_parallel import (
    ON_PROCESSES,
    assert_close,
    run_tensor_parallel,
    shard,
)

DEGREES = [1, 2, 4]
DOUBLE = {"dtype": torch.float64}
on_threads = pytest.mark.skipif(ON_PROCESSES, reason="makes threads its ranks")


@contextlib.contextmanager
def refuses(error, *texts):
    """pytest.raises of an error with all of these texts."""
    with pytest.raises(error) as caught:
        yield
    for text in texts:
        assert text in str(caught.value)


# Ranks


@on_threads
def test_run_ranks_makes_threads_under_a_launcher_too(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0",
                        "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert colonnade.run_ranks(2, lambda rank: rank) == [0, 1]


@on_threads
def test_launch_makes_one_rank_unless_told():
    def body(rank):
        ps.initialize_model_parallel()
        return rank, ps.get_world_group().size()

    assert colonnade.launch(body) == [(0, 1)]


def test_manual_seed_seeds_both_generators():
    def draw():
        with colonnade.random.tensor_parallel_random():
            apart = torch.randn(5)
        return torch.randn(5), apart

    def body(rank):
        colonnade.manual_seed(7)
        first = draw()
        other = draw()
        colonnade.manual_seed(7)
        again = draw()
        for a, b, c in zip(first, again, other):
            assert torch.equal(a, b) and not torch.equal(a, c)

    run_tensor_parallel(2, body)


def test_random_state_goes_into_a_checkpoint(tmp_path):
    """Each rank gets its own back, of both generators."""
    def draw():
        with colonnade.random.tensor_parallel_random():
            apart = torch.randn(5)
        return torch.randn(5), apart

    def body(rank):
        draw()
        pl.save({"random": colonnade.random_state()}, tmp_path)
        wanted = draw()
        draw()
        colonnade.set_random_state(pl.load(tmp_path)["random"])
        assert all(map(torch.equal, draw(), wanted))
        return wanted[1]

    assert not torch.equal(*run_tensor_parallel(2, body))


# parallel_state


@on_threads
def test_initialize_says_both_numbers_and_how_to_start_ranks():
    with refuses(colonnade.InvalidArgument, "tensor_model_parallel_size", "3",
                 "4", "run_ranks"):
        colonnade.run_ranks(4, lambda: ps.initialize_model_parallel(3))


@on_threads
@pytest.mark.parametrize("size", [0, -2])
def test_initialize_refuses_a_size_below_one(size):
    with refuses(colonnade.InvalidArgument, str(size)):
        colonnade.run_ranks(2, lambda: ps.initialize_model_parallel(size))


@on_threads
def test_initialize_divides_nothing_unless_told():
    def body(rank):
        ps.initialize_model_parallel()
        return ps.get_tensor_model_parallel_size(), ps.get_data_parallel_size()

    assert colonnade.run_ranks(2, body) == [(1, 2)] * 2


class Tied(nn.Module):
    def __init__(self, device=None):
        super().__init__()
        self.embedding = pl.ParallelEmbedding(12, 8, device=device)
        self.norm = nn.LayerNorm(8, device=device)
        self.head = pl.ColumnParallelLinear(8, 12, bias=False, device=device)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.ones(1, device=device))

    def forward(self, ids):
        return self.head(self.norm(self.embedding(ids))) * self.scale


@pytest.mark.parametrize("move", [ps.move_model_to_device,
                                  pl.move_model_to_device])
def test_move_model_to_device_keeps_attributes_and_ties(move):
    """Meta stands for a device that is not the CPU."""
    def body(rank):
        model = Tied()
        model(torch.arange(4)).sum().backward()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        optimizer.step()
        weight = model.head.weight
        spec = pl.get_tensor_parallel_attributes(weight).spec
        move(model, torch.device("meta"))
        assert model.head.weight is weight is model.embedding.weight
        assert optimizer.param_groups[0]["params"][0] is weight
        assert pl.get_tensor_parallel_attributes(weight).spec == spec
        assert weight.tensor_model_parallel and weight.partition_dim == 0
        assert weight.is_meta and weight.grad.is_meta and model.scale.is_meta
        assert model.norm.weight.grad.is_meta
        # The state of the optimizer stays.
        assert not optimizer.state[weight]["momentum_buffer"].is_meta

    run_tensor_parallel(2, body)


def test_move_model_to_device_from_meta_allocates():
    def body(rank):
        model = Tied(device="meta")
        ps.move_model_to_device(model, "cpu")
        assert model.head.weight is model.embedding.weight
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(1)
        optimizer = torch.optim.AdamW(model.parameters(), 0.1)
        model(torch.arange(4)).sum().backward()
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())

    run_tensor_parallel(2, body)


# parallel_layers


LAYERS = {
    "embedding": lambda **k: pl.ParallelEmbedding(12, 8, **k),
    "column": lambda **k: pl.ColumnParallelLinear(8, 12, **k),
    "row": lambda **k: pl.RowParallelLinear(12, 8, **k),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_device(make):
    """None is the CPU, or torch's default device where one is set."""
    def body(rank):
        for none in (None, False):
            assert make(device=none).weight.device.type == "cpu"
            with torch.device("meta"):
                assert make(device=none).weight.is_meta
        with torch.device("meta"):
            assert not make(device="cpu").weight.is_meta

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_names_that_other_libraries_give_arguments(make):
    def body(rank):
        layer = make(params_dtype=torch.float64, tp_group="tp")
        assert layer.weight.dtype == torch.float64 and layer.group == "tp"
        with refuses(TypeError, "params_dtype", "dtype"):
            make(params_dtype=torch.float64, dtype=torch.float32)

    run_tensor_parallel(2, body)


def test_names_that_other_libraries_give_arguments_of_functions(tmp_path):
    def body(rank):
        x = torch.ones(4, 6)
        tp = ps.get_tensor_model_parallel_group()
        for mapping in (pl.copy_to_tensor_model_parallel_region,
                        pl.reduce_from_tensor_model_parallel_region,
                        pl.scatter_to_tensor_model_parallel_region,
                        pl.gather_from_tensor_model_parallel_region,
                        pl.scatter_to_sequence_parallel_region,
                        pl.reduce_scatter_to_sequence_parallel_region):
            assert torch.equal(mapping(input_=x, process_group=tp),
                               mapping(x, group=tp))
        gather = pl.gather_from_sequence_parallel_region
        own = x.clone().requires_grad_()
        gather(own, tensor_parallel_output_grad=False).sum().backward()
        assert torch.equal(own.grad, x)
        target = torch.arange(4)
        assert torch.equal(
            pl.parallel_cross_entropy(vocab_parallel_logits=x, target=target),
            pl.parallel_cross_entropy(x, target))
        pl.save(checkpoint={"x": x}, output_dir=tmp_path)
        assert torch.equal(pl.load(chkpt_path=tmp_path)["x"], x)

    run_tensor_parallel(2, body)


@on_threads
def test_names_that_other_libraries_give_arguments_of_tracing(tmp_path):
    x = torch.ones(4, 6)
    model = trace.parallel_model_trace(nn.Identity, example_inputs=x,
                                       tp_degree=2)
    trace.parallel_model_save(model, save_dir=tmp_path)
    assert torch.equal(trace.parallel_model_load(model_dir=tmp_path)(x), x)
    with refuses(TypeError, "example_inputs", "inputs"):
        trace.parallel_model_trace(nn.Identity, inputs=x, example_inputs=x)


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 4, 12)])
def test_row_takes_inputs_of_any_rank(shape):
    torch.manual_seed(1)
    dense = nn.Linear(12, 8, **DOUBLE)
    x = torch.arange(float(torch.Size(shape).numel()), **DOUBLE).view(shape)

    def body(rank):
        layer = pl.RowParallelLinear(12, 8, **DOUBLE)
        assert_close(layer(x), dense(x))

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2), (0, 4)])
def test_embedding_takes_ids_of_any_shape(shape):
    torch.manual_seed(1)
    dense = nn.Embedding(12, 8)
    ids = torch.arange(torch.Size(shape).numel()).view(shape)

    def body(rank):
        assert torch.equal(pl.ParallelEmbedding(12, 8)(ids), dense(ids))

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("tp", DEGREES)
def test_init_method_takes_the_whole_tensor(tp):
    torch.manual_seed(1)
    dense_row = nn.init.orthogonal_(torch.empty(8, 12))
    dense_embedding = nn.init.orthogonal_(torch.empty(12, 8))

    def body(rank):
        row = pl.RowParallelLinear(12, 8, init_method=nn.init.orthogonal_,
                                   bias=False)
        assert torch.equal(row.weight, shard(dense_row, 1, rank, tp))
        embedding = pl.ParallelEmbedding(12, 8, nn.init.orthogonal_)
        assert torch.equal(embedding.weight,
                           shard(dense_embedding, 0, rank, tp))

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("dim", [0, 1])
def test_sequence_dimension(dim):
    torch.manual_seed(1)
    first, second = nn.Linear(8, 12, **DOUBLE), nn.Linear(12, 8, **DOUBLE)
    table = nn.Embedding(12, 8, **DOUBLE)
    ids = torch.arange(8).view(4, 2) % 12
    y = second(first(table(ids)))
    options = {"sequence_parallel_enabled": True, "sequence_dimension": dim}

    def body(rank):
        model = nn.Sequential(
            pl.ParallelEmbedding.from_dense(table, **options),
            pl.ColumnParallelLinear.from_dense(first, gather_output=False,
                                               **options),
            pl.RowParallelLinear.from_dense(second, input_is_parallel=True,
                                            **options))
        assert_close(model(ids), shard(y, dim, rank, 2))

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("smoothing, ignored", [(0.0, -100), (0.1, -100),
                                                (0.3, 5)])
def test_parallel_cross_entropy(tp, smoothing, ignored):
    torch.manual_seed(1)
    logits = torch.randn(6, 12, **DOUBLE).requires_grad_()
    target = torch.tensor([0, 11, 5, 3, ignored, 7])
    losses = F.cross_entropy(logits, target, reduction="none",
                             label_smoothing=smoothing, ignore_index=ignored)
    weights = torch.arange(6, **DOUBLE)
    (losses * weights).sum().backward()

    def body(rank):
        own = shard(logits.detach(), -1, rank, tp).clone().requires_grad_()
        got = pl.parallel_cross_entropy(own, target, smoothing, ignored)
        assert_close(got, losses)
        (got * weights).sum().backward()
        assert_close(own.grad, shard(logits.grad, -1, rank, tp))

    run_tensor_parallel(tp, body)


def test_split_parameter_and_attributes():
    whole = torch.arange(96.0).view(12, 8)

    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12)
        pl.split_parameter(layer.weight, whole)
        assert torch.equal(layer.weight, shard(whole, 0, rank, 2))
        assert torch.equal(pl.gather_parameter(layer.weight), whole)
        norm = nn.LayerNorm(8)
        pl.split_parameter(norm.weight, whole[0])  # replicated: all of it
        assert torch.equal(norm.weight, whole[0])
        assert pl.get_tensor_parallel_attributes(norm.weight) is None
        copy = torch.empty_like(layer.weight)
        pl.copy_tensor_parallel_attributes(copy, layer.weight)
        assert (pl.get_tensor_parallel_attributes(copy)
                == pl.get_tensor_parallel_attributes(layer.weight))
        with refuses(colonnade.InvalidArgument, "[12, 8]", "[8, 8]"):
            pl.split_parameter(layer.weight, torch.ones(8, 8))

    run_tensor_parallel(2, body)


# save and load


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = pl.ColumnParallelLinear(8, 12, gather_output=False)
        self.down = pl.RowParallelLinear(12, 8, input_is_parallel=True)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


def dense_state():
    torch.manual_seed(1)
    return nn.ModuleDict({"up": nn.Linear(8, 12),
                          "down": nn.Linear(12, 8)}).state_dict()


def test_nothing_is_pickled(tmp_path):
    def body(rank):
        model = Mlp()
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(8)).sum().backward()
        optimizer.step()
        pl.save({"model": model.state_dict(),
                 "optimizer": pl.state_dict(optimizer, model)}, tmp_path)

    run_tensor_parallel(2, body)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        if path.suffix == ".safetensors":
            assert safetensors.torch.load_file(path)
        else:
            assert path.name == "manifest.json" and json.loads(path.read_text())


def test_without_a_model_only_an_even_split_loads_elsewhere(tmp_path):
    def save(rank):
        pl.save({"table": pl.ParallelEmbedding(9, 4).state_dict()}, tmp_path)

    def load(rank):
        with refuses(colonnade.CheckpointError, "table.weight",
                     "split evenly over 2"):
            pl.load(tmp_path)
        layer = pl.ParallelEmbedding(9, 4)
        pl.load(tmp_path, layer, "table")  # a model pads
        return pl.gather_parameter(layer.weight)

    run_tensor_parallel(1, save)
    torch.manual_seed(1)
    wanted = nn.Embedding(9, 4).weight
    assert torch.equal(run_tensor_parallel(2, load, seed=3)[0], wanted)


@on_threads
def test_unsharded_with_an_index(tmp_path):
    """Several files, as Hugging Face splits a large model; the model key does
    not apply."""
    whole = dense_state()
    places = {}
    for number, part in enumerate(("up", "down")):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        tensors = {name: whole[name] for name in whole if name.startswith(part)}
        safetensors.torch.save_file(tensors, tmp_path / file)
        places.update(dict.fromkeys(tensors, file))
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places}))

    def body(rank):
        model = Mlp()
        assert pl.load(tmp_path, model, "no such key", sharded=False) == {}
        for name, parameter in model.named_parameters():
            assert torch.equal(pl.gather_parameter(parameter), whole[name])

    run_tensor_parallel(2, body, seed=3)


@on_threads
def test_every_rank_returns_when_the_checkpoint_is_committed(tmp_path):
    def body(rank):
        ps.initialize_model_parallel(2)
        colonnade.manual_seed(1)
        for step in range(5):
            pl.save({"model": Mlp().state_dict(), "step": step}, tmp_path)
            assert pl.load_values(tmp_path)["step"] == step
            ps.get_world_group().barrier()

    colonnade.run_ranks(4, body)


def test_save_names_what_differs_between_ranks(tmp_path):
    def body(rank):
        with refuses(colonnade.InvalidArgument, "step"):
            pl.save({"step": rank}, tmp_path)

    run_tensor_parallel(2, body)


# clip_grad_norm


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("norm_type", [2, 1, 3, 0.5, "inf", float("inf")])
def test_clip_grad_norm_is_torchs(tp, norm_type):
    """Of a model with shards, replicated parameters and a tie."""
    ids = torch.tensor([[0, 5, 11], [3, 3, 7]])

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(12, 8)
            self.norm = nn.LayerNorm(8)
            self.head = nn.Linear(8, 12, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.norm(self.embedding(x)))

    torch.manual_seed(1)
    dense = Dense().double()
    dense(ids).pow(2).sum().backward()
    norm = nn.utils.clip_grad_norm_(dense.parameters(), 0.5, float(norm_type))

    def body(rank):
        model = Tied().double()
        for own, whole in zip(model.parameters(), dense.parameters()):
            pl.split_parameter(own, whole)
        model(ids).pow(2).sum().backward()
        got = pl.clip_grad_norm(model.parameters(), 0.5, norm_type)
        assert_close(got, norm)
        assert_close(model.embedding.weight.grad,
                     shard(dense.embedding.weight.grad, 0, rank, tp))
        assert_close(model.norm.weight.grad, dense.norm.weight.grad)
        return got

    norms = run_tensor_parallel(tp, body)
    assert all(torch.equal(one, norms[0]) for one in norms)


def test_clip_grad_norm_lets_nan_pass_unless_told():
    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12)
        layer(torch.ones(8)).sum().backward()
        if rank == 1:
            layer.weight.grad[0, 0] = torch.nan
        assert pl.clip_grad_norm(layer.parameters(), 1.0).isnan()

    run_tensor_parallel(2, body)


# trace


def seeded(make):
    def func():
        colonnade.manual_seed(1)
        return make()

    return func


@pytest.fixture(scope="module")
def traced():
    return trace.parallel_model_trace(seeded(Mlp), torch.ones(2, 8),
                                      tp_degree=2)


@on_threads
def test_trace_puts_the_model_in_eval_state():
    made = []

    def func():
        model = nn.Sequential(Mlp(), nn.Dropout(0.5))
        made.append(model)
        return model

    model = trace.parallel_model_trace(func, torch.ones(2, 8))
    assert not any(one.training for one in made)
    x = torch.randn(2, 8)
    assert torch.equal(model(x), model(x))


def test_trace_by_ranks_takes_their_tensor_parallel_size():
    def body(rank):
        with refuses(colonnade.InvalidArgument, "tp_degree", "2", "1"):
            trace.parallel_model_trace(seeded(Mlp), torch.ones(2, 8),
                                       tp_degree=1)

    run_tensor_parallel(2, body)


@on_threads
def test_outputs_of_ranks_that_differ_are_found():
    class Split(nn.Module):
        def forward(self, x):
            return pl.scatter_to_tensor_model_parallel_region(x)

    model = trace.parallel_model_trace(Split, torch.ones(2, 8), tp_degree=2)
    x = torch.arange(16.0).view(2, 8)
    assert torch.equal(model(x), x[:, :4])  # rank 0's
    assert torch.equal(model.forward_all_ranks(x)[1], x[:, 4:])
    model.compare_ranks()
    with refuses(colonnade.Error, "rank 1"):
        model(x)


@on_threads
def test_an_input_on_another_device_is_named(traced):
    with refuses(colonnade.InvalidArgument, "input 0", "meta", "cpu"):
        traced(torch.ones(2, 8, device="meta"))


@on_threads
def test_an_error_on_a_rank_names_it_and_the_next_call_works():
    model = trace.parallel_model_trace(
        lambda: pl.ParallelEmbedding(8, 4), torch.tensor([1, 2]), tp_degree=2)
    ids = torch.tensor([3, 5, 7])
    wanted = model(ids)
    with refuses(colonnade.InvalidArgument, "rank ", "id 9", "[0, 8)"):
        model(torch.tensor([1, 9]))
    assert torch.equal(model(ids), wanted)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@on_threads
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("harm", ["missing", "cut", "altered"])
def test_a_file_that_is_not_as_it_was_saved_is_named(harm, number, traced,
                                                     tmp_path):
    trace.parallel_model_save(traced, tmp_path)
    files = files_of(tmp_path)
    assert len(files) == 4
    path = files[number]
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[:-3])
    else:
        content[-8] ^= 1
        path.write_bytes(content)
    with refuses(colonnade.CheckpointError, path.name):
        trace.parallel_model_load(tmp_path)(torch.ones(2, 8))


@on_threads
def test_a_file_too_many_is_named(traced, tmp_path):
    trace.parallel_model_save(traced, tmp_path)
    safetensors, = (path for path in files_of(tmp_path / "tp_rank_1"))
    (tmp_path / "tp_rank_1" / "more.safetensors").write_bytes(
        safetensors.read_bytes())
    with refuses(colonnade.CheckpointError, "more.safetensors"):
        trace.parallel_model_load(tmp_path)


@on_threads
def test_a_program_without_ranks_needs_no_launcher(tmp_path):
    """The C++ one of the contract, in Python, in a process of its own."""
    program = tmp_path / "program.py"
    program.write_text(
        "import torch, colonnade\n"
        "from torch import nn\n"
        "from colonnade import trace\n"
        "x = torch.ones(2, 4)\n"
        "model = trace.parallel_model_trace(lambda: nn.Linear(4, 4), x)\n"
        "trace.parallel_model_save(model, 'traced')\n"
        "again = trace.parallel_model_load('traced')\n"
        "assert torch.equal(model(x), again(x))\n")
    subprocess.run([sys.executable, program], check=True, cwd=tmp_path,
                   env=dict(os.environ), timeout=120)
