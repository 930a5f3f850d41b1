"""The layers against torch.nn's: values and all gradients, in double."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import colonnade
from colonnade import parallel_layers as pl
from colonnade import parallel_state as ps
from tensor_parallel import (
    ON_PROCESSES,
    assert_close,
    run_tensor_parallel,
    shard,
)

DEGREES = [1, 2, 4]
on_threads = pytest.mark.skipif(ON_PROCESSES, reason="makes threads its ranks")
DOUBLE = {"dtype": torch.float64}


def dense_linear(seed=1, bias=True, inputs=8, outputs=12):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias=bias, **DOUBLE)


def double_input(*shape):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*shape, generator=generator, **DOUBLE)


def run_backward(layer, x):
    """y and x's gradient of a loss that tells every element apart."""
    x = x.clone().requires_grad_()
    y = layer(x)
    weights = torch.arange(y.numel(), dtype=y.dtype).view_as(y)
    (y * weights).sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 3, 8)])
def test_column_gathered(tp, bias, shape):
    dense, x = dense_linear(bias=bias), double_input(*shape)
    y, x_grad = run_backward(dense, x)

    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12, bias=bias, **DOUBLE)
        assert torch.equal(layer.weight, shard(dense.weight, 0, rank, tp))
        own_y, own_x_grad = run_backward(layer, x)
        assert_close(own_y, y)
        assert_close(own_x_grad, x_grad * 1.0)
        assert_close(layer.weight.grad, shard(dense.weight.grad, 0, rank, tp))
        if bias:
            assert_close(layer.bias.grad, shard(dense.bias.grad, 0, rank, tp))

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
def test_column_not_gathered(tp):
    dense, x = dense_linear(), double_input(2, 3, 8)

    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12, gather_output=False, **DOUBLE)
        assert_close(layer(x), shard(dense(x), -1, rank, tp))

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_row(tp, bias, parallel):
    dense, x = dense_linear(bias=bias), double_input(2, 3, 8)
    y, x_grad = run_backward(dense, x)

    def body(rank):
        layer = pl.RowParallelLinear(8, 12, bias=bias,
                                     input_is_parallel=parallel, **DOUBLE)
        assert torch.equal(layer.weight, shard(dense.weight, 1, rank, tp))
        own = shard(x, -1, rank, tp) if parallel else x
        own_y, own_x_grad = run_backward(layer, own)
        assert_close(own_y, y)
        assert_close(own_x_grad,
                     shard(x_grad, -1, rank, tp) if parallel else x_grad)
        assert_close(layer.weight.grad, shard(dense.weight.grad, 1, rank, tp))
        if bias:
            assert torch.equal(layer.bias, dense.bias)
            assert_close(layer.bias.grad, dense.bias.grad)

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("rows", [12, 13])
@pytest.mark.parametrize("padding_idx", [None, 3, -1])
def test_embedding(tp, rows, padding_idx):
    torch.manual_seed(1)
    dense = nn.Embedding(rows, 4, padding_idx=padding_idx, **DOUBLE)
    ids = torch.tensor([[0, 3, rows - 1], [5, 3, 11]])
    y = dense(ids)
    weights = torch.arange(y.numel(), dtype=y.dtype).view_as(y)
    (y * weights).sum().backward()

    def body(rank):
        layer = pl.ParallelEmbedding(rows, 4, padding_idx=padding_idx,
                                     **DOUBLE)
        assert torch.equal(layer.weight, shard(dense.weight, 0, rank, tp))
        own = layer(ids)
        (own * weights).sum().backward()
        assert_close(own, y)
        assert_close(layer.weight.grad, shard(dense.weight.grad, 0, rank, tp))

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
def test_a_block_between_embedding_and_loss(tp):
    """Everything at once: embedding, column, row, head, loss, clipping."""
    def build(embedding, first, second, head):
        return nn.ModuleDict({
            "embedding": embedding(11, 8), "first": first(8, 12),
            "second": second(12, 8), "norm": nn.LayerNorm(8, **DOUBLE),
            "head": head(8, 11)})

    def run(model, loss):
        hidden = model["embedding"](ids)
        hidden = hidden + model["second"](F.gelu(model["first"](hidden)))
        value = loss(model["head"](model["norm"](hidden)))
        value.backward()
        return value.detach()

    ids = torch.tensor([[0, 3, 10, 7], [5, 3, 1, 2]])
    target = torch.tensor([[3, 10, 7, 1], [3, -100, 2, 9]])
    torch.manual_seed(1)
    dense = build(lambda n, d: nn.Embedding(n, d, **DOUBLE),
                  *[lambda i, o: nn.Linear(i, o, **DOUBLE)] * 3)
    wanted = run(dense, lambda logits: F.cross_entropy(
        logits.flatten(0, 1), target.flatten()))
    dense_norm = nn.utils.clip_grad_norm_(dense.parameters(), 0.1)

    def body(rank):
        model = build(
            lambda n, d: pl.ParallelEmbedding(n, d, **DOUBLE),
            lambda i, o: pl.ColumnParallelLinear(
                i, o, gather_output=False, **DOUBLE),
            lambda i, o: pl.RowParallelLinear(
                i, o, input_is_parallel=True, **DOUBLE),
            lambda i, o: pl.ColumnParallelLinear(
                i, o, gather_output=False, pad=True, **DOUBLE))
        got = run(model, lambda logits: pl.parallel_cross_entropy(
            logits, target, vocab_size=11).sum() / 7)
        assert_close(got, wanted)
        norm = pl.clip_grad_norm(model.parameters(), 0.1)
        assert_close(norm, dense_norm)
        for (name, own), whole in zip(model.named_parameters(),
                                      dense.parameters()):
            attributes = pl.get_tensor_parallel_attributes(own)
            part = (whole.grad if attributes is None else
                    shard(whole.grad, attributes.spec.dim, rank, tp))
            assert_close(own.grad, part)

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
def test_sequence_parallel(tp):
    dense1, dense2 = dense_linear(1), dense_linear(2, inputs=12, outputs=8)
    x = double_input(8, 2, 8)  # [seq, batch, hidden]
    y, x_grad = run_backward(lambda v: dense2(torch.relu(dense1(v))), x)

    def body(rank):
        first = pl.ColumnParallelLinear.from_dense(
            dense1, gather_output=False, sequence_parallel_enabled=True)
        second = pl.RowParallelLinear.from_dense(
            dense2, input_is_parallel=True, sequence_parallel_enabled=True)
        own = shard(x, 0, rank, tp).clone().requires_grad_()
        own_y = second(torch.relu(first(own)))
        assert_close(own_y, shard(y, 0, rank, tp))
        weights = torch.arange(y.numel(), **DOUBLE).view_as(y)
        (own_y * shard(weights, 0, rank, tp)).sum().backward()
        assert_close(own.grad, shard(x_grad, 0, rank, tp))
        assert_close(first.weight.grad, shard(dense1.weight.grad, 0, rank, tp))
        assert_close(second.bias.grad, dense2.bias.grad)

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("options", [{"segments": [8, 4]}, {"stride": 3}])
def test_fused_output(tp, options):
    dense, x = dense_linear(), double_input(2, 8)
    sizes = options.get("segments") or [4, 4, 4]

    def body(rank):
        whole = pl.ColumnParallelLinear.from_dense(dense, **options)
        assert_close(whole(x), dense(x))
        split = pl.ColumnParallelLinear.from_dense(
            dense, gather_output=False, **options)
        parts = [shard(part, -1, rank, tp) for part in dense(x).split(sizes, -1)]
        assert_close(split(x), torch.cat(parts, -1))
        assert split.weight.partition_stride == len(sizes)

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("options", [{"segments": [8, 4]}, {"stride": 3}])
def test_fused_input(tp, options):
    dense, whole = dense_linear(inputs=12, outputs=8), double_input(2, 12)
    sizes = options.get("segments") or [4, 4, 4]

    def body(rank):
        layer = pl.RowParallelLinear.from_dense(dense, **options)
        assert_close(layer(whole), dense(whole))
        layer = pl.RowParallelLinear.from_dense(
            dense, input_is_parallel=True, **options)
        parts = [shard(part, -1, rank, tp) for part in whole.split(sizes, -1)]
        assert_close(layer(torch.cat(parts, -1)), dense(whole))
        assert layer.weight.partition_stride == len(sizes)

    run_tensor_parallel(tp, body)


@pytest.mark.parametrize("tp", DEGREES)
@pytest.mark.parametrize("dim", [8, 9])
def test_embedding_split_across_columns(tp, dim):
    dense = nn.Embedding(11, dim, padding_idx=3, dtype=torch.float64)
    ids = torch.tensor([[0, 3, 10, 4], [5, 3, 1, 2]])
    dense(ids).pow(2).sum().backward()

    def body(rank):
        layer = pl.ParallelEmbedding.from_dense(
            dense, shard_across_embedding=True, pad=True)
        y = layer(ids)
        assert_close(y, dense(ids))
        y.pow(2).sum().backward()
        assert_close(layer.weight.grad, shard(dense.weight.grad, 1, rank, tp))
        assert layer.weight.partition_dim == 1

    run_tensor_parallel(tp, body)


def test_master_weight():
    colonnade.manual_seed(1)
    dense = nn.Linear(8, 12)

    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12, keep_master_weight=True)
        assert torch.equal(layer.master_weight, dense.weight)
        assert "master_weight" not in layer.state_dict()
        layer = pl.RowParallelLinear(8, 12, keep_master_weight=True)
        assert torch.equal(pl.gather_parameter(layer.weight),
                           layer.master_weight)
        assert pl.RowParallelLinear(8, 12).master_weight is None

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("tp", DEGREES)
def test_padded(tp):
    dense = dense_linear(outputs=10, inputs=9)
    x = double_input(3, 9)

    def body(rank):
        column = pl.ColumnParallelLinear.from_dense(dense, pad=True)
        row = pl.RowParallelLinear.from_dense(dense, pad=True)
        assert_close(column(x), dense(x))
        assert_close(row(x), dense(x))
        assert torch.equal(pl.gather_parameter(row.weight), dense.weight)

    run_tensor_parallel(tp, body)


def test_skip_bias_add_returns_the_bias():
    dense, x = dense_linear(), double_input(2, 8)

    def body(rank):
        for layer in (pl.ColumnParallelLinear.from_dense,
                      pl.RowParallelLinear.from_dense):
            y, bias = layer(dense, skip_bias_add=True)(x)
            assert_close(y, F.linear(x, dense.weight))
            assert bias.requires_grad

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("tp", DEGREES)
def test_a_skipped_bias_has_its_whole_gradient(tp):
    """Also where each rank adds it to its part of the sequence."""
    dense, x = dense_linear(), double_input(8, 2, 8)  # [seq, batch, hidden]
    y, _ = run_backward(dense, x)

    def body(rank):
        layer = pl.RowParallelLinear.from_dense(
            dense, input_is_parallel=True, sequence_parallel_enabled=True,
            skip_bias_add=True)
        own_y, bias = layer(shard(x, -1, rank, tp))
        own_y = own_y + bias
        assert_close(own_y, shard(y, 0, rank, tp))
        weights = torch.arange(y.numel(), **DOUBLE).view_as(y)
        (own_y * shard(weights, 0, rank, tp)).sum().backward()
        assert_close(layer.bias.grad, dense.bias.grad)
        assert_close(layer.weight.grad, shard(dense.weight.grad, 1, rank, tp))

    run_tensor_parallel(tp, body)


def test_no_bias_is_skipped_as_none():
    def body(rank):
        layer = pl.RowParallelLinear(8, 12, bias=False, input_is_parallel=True,
                                     sequence_parallel_enabled=True,
                                     skip_bias_add=True)
        assert layer(torch.ones(2, 4))[1] is None

    run_tensor_parallel(2, body)


@on_threads
@pytest.mark.parametrize("named, layer", [(True, "layer 1"),
                                          (False, "RowParallelLinear")])
def test_errors_name_the_layer(named, layer):
    def body(rank):
        model = nn.Sequential(
            pl.ColumnParallelLinear(8, 12, gather_output=False),
            pl.RowParallelLinear(12, 8, input_is_parallel=True))
        if named:
            pl.name_layers(model)
        model(torch.ones(2 + rank, 8))

    with pytest.raises(colonnade.CommError, match=rf"sum\) by {layer} but"):
        run_tensor_parallel(2, body)


def test_partial_sums():
    dense, x = dense_linear(bias=False), double_input(2, 8)

    def body(rank):
        layer = pl.RowParallelLinear.from_dense(dense, reduce_output=False)
        return layer(x)

    assert_close(sum(run_tensor_parallel(2, body)), dense(x))


def test_sums_in_another_dtype():
    def body(rank):
        layer = pl.RowParallelLinear(8, 12, dtype=torch.bfloat16,
                                     reduce_dtype=torch.float32)
        y = layer(torch.ones(2, 8, dtype=torch.bfloat16))
        assert y.dtype == torch.bfloat16
        # 256 + 1 is 256 in bf16.
        layer = pl.ColumnParallelLinear(1, 2, bias=False, gather_output=False,
                                        reduce_dtype=torch.bfloat16)
        with torch.no_grad():
            layer.weight.fill_(256 if rank == 0 else 1)
        x = torch.ones(1, 1, requires_grad=True)
        layer(x).sum().backward()
        assert x.grad.item() == 256
        layer = pl.ParallelEmbedding(8, 4, dtype=torch.bfloat16,
                                     reduce_dtype=torch.float32)
        assert layer(torch.tensor([1])).dtype == torch.bfloat16

    run_tensor_parallel(2, body)


def test_init_method_fills_the_whole():
    def fill(whole):
        assert whole.shape == (12, 8)
        nn.init.orthogonal_(whole)

    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12, init_method=fill, **DOUBLE)
        return layer.weight.detach()

    torch.manual_seed(1)
    wanted = nn.init.orthogonal_(torch.empty(12, 8, **DOUBLE))
    assert torch.equal(torch.cat(run_tensor_parallel(2, body)), wanted)


@on_threads
def test_a_group_of_its_own():
    dense, x = dense_linear(), double_input(2, 8)

    def body(rank):
        ps.initialize_model_parallel(1)
        pair = ps.new_group("pair", [0, 1] if rank < 2 else [2, 3])
        for group in (pair, "pair"):
            layer = pl.ColumnParallelLinear.from_dense(
                dense, tensor_model_parallel_group=group)
            assert layer.weight.shape == (6, 8)
            assert_close(layer(x), dense(x))

    colonnade.run_ranks(4, body)


def test_from_dense_keeps_what_the_dense_module_says():
    linear = nn.Linear(8, 12, bias=False).half().eval().requires_grad_(False)
    embedding = nn.Embedding(12, 4, padding_idx=2)

    def body(rank):
        layer = pl.from_dense(linear)
        assert isinstance(layer, pl.ColumnParallelLinear)
        assert layer.weight.dtype == torch.float16 and layer.bias is None
        assert not layer.training and not layer.weight.requires_grad
        table = pl.from_dense(embedding)
        assert isinstance(table, pl.ParallelEmbedding)
        assert table.padding_idx == 2
        row = pl.from_dense(linear, pl.RowParallelLinear)
        assert torch.equal(pl.gather_parameter(row.weight), linear.weight)
        on_meta = pl.from_dense(nn.Linear(8, 12, device="meta"))
        assert on_meta.weight.is_meta and on_meta.weight.shape == (6, 8)

    run_tensor_parallel(2, body)


def test_dropout_drops_other_elements_on_each_rank():
    def body(rank):
        apart, alike = pl.Dropout(0.5), nn.Dropout(0.5)
        x = torch.ones(1000)
        assert torch.equal(pl.Dropout(0.5).eval()(x), x)
        return apart(x), alike(x)

    one, two = run_tensor_parallel(2, body)
    assert not torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


REFUSALS = {
    "output_size 9 does not divide over 2 ranks":
        lambda: pl.ColumnParallelLinear(8, 9),
    "input_size 9 does not divide over 2 ranks":
        lambda: pl.RowParallelLinear(9, 8),
    "segments .* add up to 5, not to output_size 8":
        lambda: pl.ColumnParallelLinear(8, 8, segments=[1, 4]),
    "stride 3 needs an output_size that it divides":
        lambda: pl.ColumnParallelLinear(8, 8, stride=3),
    "stride 3 needs an input_size that it divides":
        lambda: pl.RowParallelLinear(8, 8, stride=3),
    "RowParallelLinear: sequence_parallel_enabled needs input_is_parallel":
        lambda: pl.RowParallelLinear(8, 8, sequence_parallel_enabled=True),
    "RowParallelLinear: a bias cannot be added":
        lambda: pl.RowParallelLinear(8, 8, reduce_output=False),
    "ParallelEmbedding: embedding_dim 7 does not divide over 2 ranks; set pad":
        lambda: pl.ParallelEmbedding(8, 7, shard_across_embedding=True),
    "ParallelEmbedding: the argument sparse=True is not":
        lambda: pl.ParallelEmbedding(8, 8, sparse=True),
    "ParallelEmbedding: the argument max_norm=1.0 is not":
        lambda: pl.from_dense(nn.Embedding(8, 8, max_norm=1.0)),
    "padding_idx 9 is outside":
        lambda: pl.ParallelEmbedding(8, 8, padding_idx=9),
    "num_embeddings is -1": lambda: pl.ParallelEmbedding(-1, 8),
    "no group called \"row\"":
        lambda: pl.RowParallelLinear(8, 8, tensor_model_parallel_group="row"),
    r"ColumnParallelLinear: the input has shape \[2, 7\]; expected \[..., 8\]":
        lambda: pl.ColumnParallelLinear(8, 8)(torch.ones(2, 7)),
    "the input is Double, the weight Float":
        lambda: pl.RowParallelLinear(8, 8)(torch.ones(8, **DOUBLE)),
    r"ParallelEmbedding: id 12 is outside \[0, 8\)":
        lambda: pl.ParallelEmbedding(8, 4)(torch.tensor([1, 12])),
    "divide: 7 is not a multiple of 2": lambda: pl.utils.divide(7, 2),
}


@pytest.mark.parametrize("text, call", REFUSALS.items())
def test_refuses(text, call):
    """One clear error on every rank, before any communication."""
    def body(rank):
        with pytest.raises(colonnade.InvalidArgument, match=text):
            call()

    run_tensor_parallel(2, body)


def test_an_unknown_argument_is_named():
    def body(rank):
        with pytest.raises(TypeError, match="is_expert"):
            pl.ColumnParallelLinear(8, 8, is_expert=True)

    run_tensor_parallel(1, body)


@on_threads
def test_before_initialize():
    with pytest.raises(colonnade.InvalidArgument,
                       match="ColumnParallelLinear: there is no "
                             "tensor-parallel group yet"):
        pl.ColumnParallelLinear(8, 8)


@pytest.mark.parametrize("tp", DEGREES)
def test_mappings(tp):
    x = double_input(4, 8)

    def run(mapping, own):
        own = own.clone().requires_grad_()
        y = mapping(own)
        y.backward(torch.ones_like(y))
        return y.detach(), own.grad

    def body(rank):
        part = shard(x, -1, rank, tp)
        rows = shard(x, 0, rank, tp)
        ones = torch.ones_like
        for mapping, own, y, grad in [
            (pl.copy_to_tensor_model_parallel_region, x, x, tp * ones(x)),
            (pl.reduce_from_tensor_model_parallel_region, x, tp * x, ones(x)),
            (pl.scatter_to_tensor_model_parallel_region, x, part, ones(x)),
            (pl.gather_from_tensor_model_parallel_region, part, x, ones(part)),
            (pl.scatter_to_sequence_parallel_region, x, rows, ones(x)),
            (pl.gather_from_sequence_parallel_region, rows, x,
             tp * ones(rows)),
            (pl.reduce_scatter_to_sequence_parallel_region, x, tp * rows,
             ones(x)),
        ]:
            got_y, got_grad = run(mapping, own)
            assert_close(got_y, y)
            assert_close(got_grad, grad)
        columns = pl.scatter_to_tensor_model_parallel_region(x, dim=0)
        assert torch.equal(columns, rows)
        whole = pl.gather_from_sequence_parallel_region(
            rows, to_model_parallel=False)
        assert torch.equal(whole, x)

    run_tensor_parallel(tp, body)


class ScopedDropout(nn.Module):
    """Draws from both generators, and within a scope of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([
            pl.ColumnParallelLinear(8, 12), pl.Dropout(0.5), nn.Dropout(0.3)])

    def forward(self, x):
        column, apart, own = self.layers
        return own(apart(own(column(x))))


SCOPES = {"replicated": contextlib.nullcontext,
          "tensor_parallel": colonnade.random.tensor_parallel_random}


def check_draws(layer, checkpointed, forward_in, backward_in="replicated"):
    """The second forward of `checkpointed(x)` drops what the first one did,
    wherever it runs, and leaves the generators where they were."""
    x = torch.randn(16, 8, requires_grad=True)
    state = colonnade.random_state()
    with SCOPES[forward_in]():
        layer(x).sum().backward()
    wanted, x.grad = x.grad, None
    after = colonnade.random_state()
    colonnade.set_random_state(state)
    with SCOPES[forward_in]():
        y = checkpointed(x)
    with SCOPES[backward_in]():
        y.sum().backward()
    assert torch.equal(x.grad, wanted)
    assert all(map(torch.equal, colonnade.random_state(), after))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("backward_in", SCOPES)
@pytest.mark.parametrize("forward_in", SCOPES)
def test_checkpointing_with_dropout(forward_in, backward_in, reentrant):
    def body(rank):
        layer = ScopedDropout()
        check_draws(layer, lambda x: pl.random.checkpoint(
            layer, x, use_reentrant=reentrant), forward_in, backward_in)

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("scope, layer", [
    ("replicated", ScopedDropout),
    ("tensor_parallel", lambda: nn.Sequential(nn.Linear(8, 12), nn.Dropout()))])
def test_torchs_own_checkpoint_with_dropout(scope, layer, reentrant):
    def body(rank):
        own = layer()
        check_draws(own, lambda x: checkpoint(own, x, use_reentrant=reentrant),
                    scope)

    run_tensor_parallel(2, body)


def test_a_checkpoint_runs_backward_twice():
    def body(rank):
        layer = ScopedDropout()
        x = torch.randn(16, 8, requires_grad=True)
        for reentrant in (False, True):
            y = pl.random.checkpoint(layer, x, use_reentrant=reentrant).sum()
            y.backward(retain_graph=True)
            once, x.grad = x.grad, None
            torch.rand(3)
            y.backward()
            assert torch.equal(x.grad, once)
            x.grad = None

    run_tensor_parallel(2, body)


def test_a_checkpoint_may_draw_anew():
    def body(rank):
        x = torch.ones(1000, requires_grad=True)
        y = pl.random.checkpoint(lambda v: nn.Dropout(0.5)(v), x,
                                 preserve_rng_state=False)
        y.sum().backward()
        assert not torch.equal(x.grad, y)

    run_tensor_parallel(2, body)


def test_500_passes_without_a_deadlock():
    def body(rank):
        layer = nn.Sequential(
            pl.ParallelEmbedding(16, 8),
            pl.ColumnParallelLinear(8, 16, gather_output=False),
            nn.GELU(), pl.RowParallelLinear(16, 8, input_is_parallel=True))
        optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
        ids = torch.arange(16)
        for _ in range(500):
            optimizer.zero_grad()
            layer(ids).pow(2).sum().backward()
            optimizer.step()
        return layer(ids).detach()

    one, two = run_tensor_parallel(2, body)
    assert torch.equal(one, two) and one.isfinite().all()


@on_threads
def test_average_gradients():
    def body(rank):
        ps.initialize_model_parallel(2)
        colonnade.manual_seed(1)
        layer = pl.ColumnParallelLinear(8, 12)
        layer(torch.full((2, 8), float(rank // 2))).sum().backward()
        own = layer.weight.grad.clone()
        with pl.no_sync():
            pl.average_gradients(layer)
        assert torch.equal(layer.weight.grad, own)
        pl.average_gradients(layer)
        return own, layer.weight.grad

    ranks = colonnade.run_ranks(4, body)
    assert torch.equal(ranks[0][1], (ranks[0][0] + ranks[2][0]) / 2)
    assert torch.equal(ranks[0][1], ranks[2][1])


def test_clip_grad_norm_takes_what_torchs_does():
    def body(rank):
        layer = pl.ColumnParallelLinear(8, 12)
        assert pl.clip_grad_norm(layer.parameters(), 1.0) == 0
        layer(torch.ones(2, 8)).sum().backward()
        largest = pl.clip_grad_norm(iter(layer.parameters()), 1e9, "inf")
        assert largest == 2.0
        norm = pl.clip_grad_norm(layer.weight, max_norm=1, norm_type=1)
        assert norm == 2.0 * 96
        layer.weight.grad[0, 0] = torch.nan
        with pytest.raises(ValueError, match="non-finite|nan"):
            pl.clip_grad_norm(layer.parameters(), 1.0, error_if_nonfinite=True)
        with pytest.raises(TypeError, match="not int"):
            pl.clip_grad_norm(3, 1.0)

    run_tensor_parallel(2, body)


def test_modules_of_neuronx_distributed_resolve():
    import importlib

    for name in ("parallel_state", "layers", "mappings", "checkpointing",
                 "grads", "loss_functions", "random", "utils"):
        module = importlib.import_module("colonnade.parallel_layers." + name)
        assert getattr(pl, name) is module
    assert pl.parallel_state is ps
    from colonnade.parallel_layers.parallel_state import (  # noqa: F401
        get_tensor_model_parallel_size,
    )
