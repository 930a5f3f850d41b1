"""Unmodified models of transformers, tiny and with random weights: traced in
Python, run in C++ at sizes that were never traced."""

import pytest
import torch
import transformers

import colonnade
from colonnade import trace
from trace_test import run_in_cpp

SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 48,
         "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 64,
         "use_cache": False}

MODELS = {
    "Llama": lambda **k: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, **k)),
    "Qwen2": lambda **k: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**SIZES, **k)),
    "Mistral": lambda **k: transformers.MistralForCausalLM(
        transformers.MistralConfig(**SIZES, **k)),
    "GPT-2": lambda **k: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=48, n_embd=32, n_layer=2, n_head=4,
                                n_positions=64, use_cache=False, **k)),
}


def seeded(name, **options):
    def func():
        colonnade.manual_seed(1)
        return MODELS[name](**options)

    return func


def ids(batch, length):
    generator = torch.Generator().manual_seed(batch * 100 + length)
    return torch.randint(0, 48, (batch, length), generator=generator)


CALLS = [(ids(3, 11),), (ids(1, 20),), (ids(2, 5),)]  # the last is traced


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_runs_in_cpp(name, attention, tmp_path):
    func = seeded(name, attn_implementation=attention)
    model = func().eval()
    with torch.no_grad():
        wanted = [model(*inputs).logits for inputs in CALLS]
    traced = trace.parallel_model_trace(func, CALLS[-1][0])
    for inputs, logits in zip(CALLS, wanted):
        torch.testing.assert_close(traced(*inputs)["logits"], logits,
                                   rtol=0, atol=1e-6)
    trace.parallel_model_save(traced, tmp_path / "traced")
    assert run_in_cpp(tmp_path / "traced", CALLS, wanted, 1, tmp_path) <= 1e-6
