"""What a call takes in Python, ours against torch's in the same process: a Llama
of transformers that was traced, replayed by C++, against the model itself; and
a parallel layer against torch.nn's. One rank, no gradients.

usage: trace_replay.py [--rounds N]

Contenders take turns, call by call or in short runs of calls, so that what else
the machine does hits both. Times are medians, with the quarter and the three
quarters of all; `ratio` is the median of ours over theirs, round by round.
"""
import argparse
import statistics
import time

import torch
import transformers
from torch import nn

import colonnade
from colonnade import parallel_layers, parallel_state, trace

TINY = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2}
MID = {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408,
       "num_hidden_layers": 8, "num_attention_heads": 8,
       "num_key_value_heads": 4}


def time_calls(call, calls):
    """Microseconds a call."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - start) / calls / 1e3


def contest(name, theirs, ours, rounds, calls):
    """Prints what a round of both contenders takes."""
    times = [], []
    for number in range(-2, rounds):  # two rounds to warm up
        order = [(0, theirs), (1, ours)]
        for place, call in order if number % 2 else reversed(order):
            taken = time_calls(call, calls)
            if number >= 0:
                times[place].append(taken)

    def shown(values):
        low, middle, high = statistics.quantiles(values, n=4)
        return f"{middle:10.1f} ({low:.1f} to {high:.1f})"

    ratio = statistics.median(b / a for a, b in zip(*times))
    print(f"{name:<34} {shown(times[0]):<34} {shown(times[1]):<34} "
          f"{ratio:6.3f}", flush=True)


def llama(sizes):
    colonnade.manual_seed(1)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **sizes, max_position_embeddings=1024, use_cache=False)).eval()


def replay(name, sizes, shapes, rounds):
    model = llama(sizes)
    traced = trace.parallel_model_trace(lambda: llama(sizes),
                                        torch.arange(8).view(2, 4))
    generator = torch.Generator().manual_seed(1)
    for shape in shapes:
        ids = torch.randint(sizes["vocab_size"], shape, generator=generator)
        torch.testing.assert_close(traced(ids)["logits"], model(ids).logits,
                                   rtol=1e-4, atol=1e-5)
        contest(f"{name} Llama, ids {list(shape)}", lambda: model(ids),
                lambda: traced(ids), rounds, calls=1)


def layers(rounds):
    parallel_state.initialize_model_parallel()
    for size in (8, 64):
        dense = nn.Linear(size, size)
        x = torch.ones(1, size)
        for layer in (parallel_layers.ColumnParallelLinear,
                      parallel_layers.RowParallelLinear):
            own = layer.from_dense(dense)
            torch.testing.assert_close(own(x), dense(x))
            contest(f"{layer.__name__}({size}, {size})", lambda: dense(x),
                    lambda own=own: own(x), 10 * rounds, calls=200)
    parallel_state.destroy_model_parallel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    print(f"us a call on {torch.get_num_threads()} threads")
    print(f"{'':<34} {'torch':>10} {'':<23} {'ours':>10} {'':<23} {'ratio':>6}")
    with torch.inference_mode():
        layers(rounds)
        replay("tiny", TINY, [(2, 4), (1, 16), (4, 64)], 10 * rounds)
        replay("mid-size", MID, [(2, 4), (1, 16), (4, 64)], rounds)


if __name__ == "__main__":
    main()
