"""A model of Hugging Face's as a checkpoint that any number of ranks loads, and
back as plain safetensors; the weights are compared bit for bit.

usage: convert_hugging_face.py FOLDER [MODEL]

MODEL is a folder with config.json and safetensors, of a model that carries a
plan for tensor parallelism (Llama, Mistral, Qwen2, …); without it a tiny Llama
with random weights is made. FOLDER gets `sharded`, `plain` and `model.pt`.
"""
import pathlib
import shutil
import sys

import safetensors.torch
import torch
import transformers

import colonnade
from colonnade import parallel_layers, parallel_state


def make_tiny(folder):
    transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
    )).save_pretrained(folder)
    return folder


def build(source, weights=None):
    """This rank's part of the model; without weights those are random."""
    config = transformers.AutoConfig.from_pretrained(source)
    with torch.device("cpu" if weights is None else "meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return colonnade.parallelize(model, weights=weights)


def shard(source, folder):
    """Each rank reads its own part only, and writes it."""
    parallel_state.initialize_model_parallel(2)
    model = build(source, weights=source)
    parallel_layers.save({"model": model.state_dict()}, folder / "sharded")


def unshard(source, folder):
    parallel_state.initialize_model_parallel(4)  # as well as 2
    model = build(source)
    parallel_layers.load(folder / "sharded", model)
    parallel_layers.save_unsharded(model, folder / "plain")


def load_file_of_torch(source, folder, wanted):
    """A trainer's own file, in which the model is one entry of several."""
    parallel_state.initialize_model_parallel(2)
    model = build(source)
    saved = colonnade.load_torch(folder / "model.pt")  # mapped, runs no code
    for name, tensor in model.state_dict(keep_vars=True).items():
        parallel_layers.split_parameter(tensor, saved["model"][name])
    head = parallel_layers.gather_parameter(model.lm_head.weight)
    assert torch.equal(head, wanted["lm_head.weight"])


def main():
    folder = pathlib.Path(sys.argv[1])
    source = (pathlib.Path(sys.argv[2]) if len(sys.argv) > 2
              else make_tiny(folder / "source"))
    colonnade.run_ranks(2, lambda: shard(source, folder))
    print("sharded:", ", ".join(sorted(
        path.name for path in (folder / "sharded").iterdir())))

    colonnade.run_ranks(4, lambda: unshard(source, folder))
    shutil.copy(source / "config.json", folder / "plain")
    original = transformers.AutoModelForCausalLM.from_pretrained(source)
    wanted = original.state_dict()
    plain = safetensors.torch.load_file(folder / "plain/model.safetensors")
    assert all(torch.equal(plain[name], wanted[name]) for name in plain)
    back = transformers.AutoModelForCausalLM.from_pretrained(folder / "plain")
    ids = torch.arange(10)[None]
    assert torch.equal(back(ids).logits, original(ids).logits)
    print(f"plain: {len(plain)} tensors, all equal to the source's")

    torch.save({"model": wanted, "step": 7}, folder / "model.pt")
    colonnade.run_ranks(2, lambda: load_file_of_torch(source, folder, wanted))
    print("model.pt: the parts of two ranks are equal to it too")


if __name__ == "__main__":
    main()
