import copy

import pytest
import torch
import transformers
from torch import nn

import colonnade
from colonnade import parallel_layers as pl
from colonnade import trace
from tensor_parallel import (
    ON_PROCESSES,
    assert_close,
    of_first_rank,
    run_tensor_parallel,
    shard,
)
from trace_test import run_in_cpp
from transformers_test import CALLS, MODELS, SIZES

WITH_PLAN = ["Llama", "Qwen2", "Mistral"]

# Activations between layers are parts of the sequence, too.
SEQUENCE_PLAN = {
    "model.embed_tokens": "vocabulary",
    "model.layers.0": "scatter_sequence",
    "model.layers.*.input_layernorm": "sequence_parallel",
    "model.layers.*.self_attn": "gather_sequence",
    "model.layers.*.self_attn.q_proj": "colwise",
    "model.layers.*.self_attn.k_proj": "colwise",
    "model.layers.*.self_attn.v_proj": "colwise",
    "model.layers.*.self_attn.o_proj": "rowwise_sequence",
    "model.layers.*.post_attention_layernorm": "sequence_parallel",
    "model.layers.*.mlp": "gather_sequence",
    "model.layers.*.mlp.gate_proj": "colwise",
    "model.layers.*.mlp.up_proj": "colwise",
    "model.layers.*.mlp.down_proj": "rowwise_sequence",
    "model.norm": "sequence_parallel",
    "lm_head": "colwise_sequence_gather_output",
}
on_threads = pytest.mark.skipif(ON_PROCESSES, reason="traces on threads")


def build(name, dtype=torch.float64, **options):
    colonnade.manual_seed(1)
    return (MODELS | {"Qwen3": qwen3})[name](**options).to(dtype)


def qwen3(**options):
    """It has norms of each head's queries and keys."""
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**SIZES, head_dim=8, **options))


def randomize_norms(model):
    """No two elements alike, so that a wrong part shows."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key:
                parameter.uniform_(0.5, 1.5, generator=generator)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name, plan", [
    *((name, None) for name in WITH_PLAN), ("Qwen3", None),
    ("Llama", SEQUENCE_PLAN)])
def test_logits_and_gradients(name, plan, tied):
    ids = CALLS[1][0]
    colonnade.manual_seed(1)
    dense = build(name, tie_word_embeddings=tied)
    randomize_norms(dense)
    logits = dense(ids).logits
    logits.pow(2).sum().backward()

    def body(rank):
        model = build(name, tie_word_embeddings=tied)
        randomize_norms(model)
        assert colonnade.parallelize(model, plan) is model
        assert isinstance(model.lm_head, pl.ColumnParallelLinear)
        assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
        own = model(ids).logits
        own.pow(2).sum().backward()
        assert_close(own, logits)
        count = 0
        for (key, a), b in zip(model.named_parameters(), dense.parameters()):
            attributes = pl.get_tensor_parallel_attributes(a)
            count += attributes is not None
            assert_close(a.grad, b.grad if attributes is None else
                         shard(b.grad, attributes.spec.dim, rank, 2))
        assert count >= 14

    run_tensor_parallel(2, body)


def test_gradient_checkpointing_with_dropout():
    """What transformers asks of torch.utils.checkpoint."""
    def gradients(model):
        model.zero_grad()
        colonnade.manual_seed(2)
        model(CALLS[1][0]).logits.pow(2).sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    def body(rank):
        model = colonnade.parallelize(build(
            "Llama", attention_dropout=0.5, attn_implementation="eager"))
        model.train()
        wanted = gradients(model)
        for reentrant in (False, True):
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            for own, whole in zip(gradients(model), wanted):
                assert_close(own, whole)

    run_tensor_parallel(2, body)


@on_threads
@pytest.mark.parametrize("name", WITH_PLAN)
def test_traced_at_two_and_run_in_cpp(name, tmp_path):
    """C++ computes the same bits as Python's replay, which are the dense
    model's but for the order of sums (norms are in float32)."""
    with torch.no_grad():
        model = build(name).eval()
        wanted = [model(*inputs).logits for inputs in CALLS]
    traced = trace.parallel_model_trace(
        lambda: colonnade.parallelize(build(name)), CALLS[-1][0], tp_degree=2)
    folder = tmp_path / "traced"
    trace.parallel_model_save(traced, folder)
    for degree in (1, 2):
        again = trace.parallel_model_load(folder, degree)
        replayed = [again(*inputs)["logits"] for inputs in CALLS]
        torch.testing.assert_close(replayed, wanted, rtol=0, atol=1e-6)
        assert run_in_cpp(folder, CALLS, replayed, degree, tmp_path) == 0


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("meta", [False, True])
def test_weights_of_a_hugging_face_folder(meta, tied, tmp_path_factory):
    folder = of_first_rank(tmp_path_factory.mktemp("weights"))
    dense = build("Llama", torch.float32, tie_word_embeddings=tied).eval()
    dense.save_pretrained(folder)  # under torch.distributed rank 0's alone
    of_first_rank("saved")
    wanted = dense(CALLS[0][0]).logits

    def body(rank):
        with torch.device("meta" if meta else "cpu"):
            model = MODELS["Llama"](tie_word_embeddings=tied).eval()
        colonnade.parallelize(model, weights=folder)
        torch.testing.assert_close(model(CALLS[0][0]).logits, wanted,
                                   rtol=1e-5, atol=1e-6)

    run_tensor_parallel(2, body, seed=7)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(8, 12), "down": nn.Linear(12, 8)})
            for _ in range(2))
        self.odd = nn.Linear(7, 9)

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = x + layer["down"](torch.relu(layer["up"](x)))
        return x


PLAN = {"embedding": "vocabulary", "layers.*.up": "colwise",
        "layers.*.down": "rowwise", "odd": "replicated"}


def test_a_plan_of_ones_own():
    torch.manual_seed(1)
    dense = Net()
    ids = torch.tensor([[1, 10, 3]])

    def body(rank):
        colonnade.manual_seed(1)
        model = colonnade.parallelize(Net(), PLAN)
        assert type(model.odd) is nn.Linear
        torch.testing.assert_close(model(ids), dense(ids))

    run_tensor_parallel(2, body)


def test_all_that_does_not_fit_is_listed():
    plan = {"embedding": "colwise", "layers.*.sideways": "rowwise",
            "odd": "colwise", "layers.0.up": "diagonal"}

    def body(rank):
        model = Net()
        model.config = transformers.PretrainedConfig(num_attention_heads=3)
        with pytest.raises(colonnade.InvalidArgument) as caught:
            colonnade.parallelize(model, plan)
        for text in ("embedding: is a Embedding, which cannot be colwise",
                     "layers.*.sideways: matches no module",
                     "odd: ColumnParallelLinear: output_size 9 does not divide",
                     "layers.0.up: 'diagonal' is no style",
                     "config.num_attention_heads: 3 heads do not divide over "
                     "2 ranks"):
            assert text in str(caught.value)
        assert type(model.layers[0]["up"]) is nn.Linear

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("style", ["colwise_gather_output", "replicated"])
def test_two_patterns_that_disagree(style):
    def body(rank):
        plan = {**PLAN, "layers.0.up": style}
        with pytest.raises(colonnade.InvalidArgument, match=(
                f"layers.0.up: one pattern makes it 'colwise', and layers.0.up "
                f"'{style}'")):
            colonnade.parallelize(Net(), plan)

    run_tensor_parallel(2, body)


def test_a_model_without_a_plan():
    def body(rank):
        with pytest.raises(colonnade.InvalidArgument,
                           match="Net carries no tp_plan; give a plan"):
            colonnade.parallelize(Net())

    run_tensor_parallel(1, body)


def test_a_tie_to_what_is_not_split():
    def body(rank):
        model = Net()
        model.copy = nn.Embedding(11, 8)
        model.copy.weight = model.embedding.weight
        with pytest.raises(colonnade.InvalidArgument,
                           match="embedding: its weight is also that of copy"):
            colonnade.parallelize(model, PLAN)

    run_tensor_parallel(2, body)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x):
        if x.isnan().any():
            raise ValueError("not a number")
        return x * self.weight


def test_gradients_are_summed_over_the_sequence():
    def body(rank):
        module = nn.Sequential(Norm(), nn.Identity())
        pl.sum_gradients_over_sequence(module)
        pair = [module, copy.deepcopy(module)]  # with its hooks
        for each in pair:
            each(torch.full((1, 2), rank + 1.0)).sum().backward()
            assert each[0].weight.grad.tolist() == [3.0, 3.0]
        own = module[0].weight
        with pytest.raises(ValueError):
            module(torch.tensor([[float("nan"), 0.0]]))
        assert module[0].weight is own

    run_tensor_parallel(2, body)


def test_gradients_are_summed_once_however_often_that_is_asked():
    def body(rank):
        module = nn.Sequential(Norm())
        plan = {"0": "sequence_parallel"}
        colonnade.parallelize(module, plan)
        colonnade.parallelize(module, plan)
        pl.sum_gradients_over_sequence(copy.deepcopy(module))
        pl.sum_gradients_over_sequence(module)
        module(torch.full((1, 2), rank + 1.0)).sum().backward()
        assert module[0].weight.grad.tolist() == [3.0, 3.0]

    run_tensor_parallel(2, body)


@pytest.mark.skipif(ON_PROCESSES, reason="makes threads its ranks")
def test_gradients_are_summed_over_each_group_once():
    def body(rank):
        colonnade.parallel_state.initialize_model_parallel(2)
        columns = colonnade.parallel_state.new_group(
            "columns", [rank % 2, rank % 2 + 2])
        module = Norm()
        for _ in range(2):
            pl.sum_gradients_over_sequence(module)
            pl.sum_gradients_over_sequence(module, columns)
        own = module.weight
        module(torch.full((1, 2), rank + 1.0)).sum().backward()
        assert module.weight is own
        assert own.grad.tolist() == [10.0, 10.0]

    colonnade.run_ranks(4, body)


def test_a_split_input_that_is_no_tensor():
    def body(rank):
        model = colonnade.parallelize(Net(), {"embedding": "scatter_sequence"})
        with pytest.raises(colonnade.InvalidArgument,
                           match="Embedding was called with no tensor"):
            model.embedding([1, 2])

    run_tensor_parallel(2, body)
