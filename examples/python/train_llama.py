"""Trains a small Llama on the bytes of a text (llama.py, unless another is
given), saves a checkpoint, and goes on from it when it is run again, on as many
ranks as one likes.

usage: train_llama.py FOLDER [--steps N] [--tp N] [--dp N] [--text FILE]

Ranks are tp * dp threads of this process, or the processes of a launcher:
  torchrun --nproc-per-node 2 train_llama.py FOLDER --tp 2

The program `colonnade` writes with the checkpoint:
  colonnade generate --checkpoint FOLDER --prompt "class "
"""
import argparse
import dataclasses
import pathlib

import torch
from llama import Config, Llama

import colonnade
from colonnade import parallel_layers, parallel_state

BATCH, SEQ = 8, 64


def batch_of(text, step, rank, ranks):
    """Random pieces of the text: this data-parallel rank's, of this step."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(text) - SEQ, (BATCH * ranks,),
                           generator=generator)[rank::ranks]
    pieces = torch.stack([text[start:start + SEQ + 1] for start in starts])
    return pieces[:, :-1], pieces[:, 1:]


def train(args):
    parallel_state.initialize_model_parallel(args.tp)
    rank, ranks = (parallel_state.get_data_parallel_rank(),
                   parallel_state.get_data_parallel_size())
    first = (rank, parallel_state.get_tensor_model_parallel_rank()) == (0, 0)
    colonnade.manual_seed(1)  # every rank starts with its part of one model
    config = Config()
    model = Llama(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    step = 0
    if (args.folder / "manifest.json").exists():
        rest = parallel_layers.load(args.folder, model)
        colonnade.load_state_dict(optimizer, model, rest["optimizer"])
        step = rest["run"]["step"]
        if first:
            print(f"goes on after step {step}")
    text = torch.tensor(list(args.text.read_bytes()))
    for step in range(step + 1, step + args.steps + 1):
        optimizer.zero_grad()
        loss = model.loss(*batch_of(text, step, rank, ranks))
        loss.backward()
        parallel_layers.average_gradients(model)
        norm = parallel_layers.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        if first and step % 50 == 0:
            print(f"step {step}  loss {loss:.4f}  gradient norm {norm:.3f}")
    parallel_layers.save(
        {"model": model.state_dict(),
         "optimizer": colonnade.state_dict(optimizer, model),
         # What the program `colonnade` wants to know of a run.
         "run": {"step": step, "seq_len": SEQ, "eval_fraction": 0.1,
                 "model": dataclasses.asdict(config), "train": {}}},
        args.folder)
    if first:
        print(f"saved {args.folder} after step {step}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--dp", type=int, default=1)
    parser.add_argument("--text", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("llama.py"))
    args = parser.parse_args()
    colonnade.launch(lambda: train(args), threads=args.tp * args.dp)


if __name__ == "__main__":
    main()
