"""Makes a graph of a Llama that writes text, checks that the graph writes what
the model does, and saves it: programs without Python go on with it.

usage: trace_and_serve.py FOLDER [CHECKPOINT]

CHECKPOINT is one of train_llama.py; without it weights are random. Then, in
C++ (examples/serve.cpp is the second program):

  colonnade run FOLDER --prompt "class " --tp 2 --max-tokens 60
  echo "class " | serve FOLDER 1 60
"""
import sys

import torch
from llama import Config, Decoder, Llama

import colonnade
from colonnade import parallel_layers, parallel_state, trace

PROMPT, LENGTH = "class ", 60


def make(checkpoint):
    """On every rank: the model to trace, with its weights in place."""
    colonnade.manual_seed(1)
    if checkpoint is None:
        return Decoder(Llama(Config()), max_length=256)
    values = parallel_layers.load_values(checkpoint)  # all but the tensors
    llama = Llama(Config(**values["run"]["model"]))
    parallel_layers.load_model(checkpoint, llama)
    return Decoder(llama, max_length=256)


def write(model):
    """The bytes that follow the prompt, each time the likeliest."""
    ids, written = list(PROMPT.encode()), []
    for _ in range(LENGTH):
        logits = model(torch.tensor([ids]))
        ids = [logits[0].argmax().item()]  # the cache has the others
        written += ids
    return bytes(written)


def write_eagerly(checkpoint):
    parallel_state.initialize_model_parallel(1)
    with torch.no_grad():
        return write(make(checkpoint).eval())


def main():
    folder, checkpoint = [*sys.argv[1:3], None][:2]
    prompt = torch.tensor([list(PROMPT.encode())])
    model = trace.parallel_model_trace(lambda: make(checkpoint), prompt,
                                       tp_degree=2)
    trace.parallel_model_save(model, folder)
    print(f"traced into {folder}: {len(model.graph.splitlines())} lines")
    written = write(model)
    print(PROMPT + written.decode(errors="replace"))
    for degree in (1, 2):
        again = trace.parallel_model_load(folder, tp_degree=degree)
        assert write(again) == written, degree
    assert colonnade.run_ranks(
        1, lambda: write_eagerly(checkpoint)) == [written]
    print("the model that was not traced writes the same, and so does the "
          "graph on one rank")


if __name__ == "__main__":
    main()
