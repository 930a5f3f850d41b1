import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

import colonnade
from colonnade import parallel_layers as pl
from colonnade import parallel_state as ps
from colonnade import trace
from tensor_parallel import run_tensor_parallel

PEER = os.environ["COLONNADE_TRACE_PEER"]


class Mlp(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.up = pl.ColumnParallelLinear(hidden, 4 * hidden,
                                          gather_output=False)
        self.down = pl.RowParallelLinear(4 * hidden, hidden,
                                         input_is_parallel=True)

    def forward(self, x):
        return self.down(torch.nn.functional.gelu(self.up(x)))


def seeded(make):
    """`make` with the same weights wherever it is called."""
    def func():
        colonnade.manual_seed(1)
        return make()

    return func


def eager(make, calls):
    """The outputs of the model that was never traced, on one rank."""
    def body(rank):
        model = seeded(make)().eval()
        with torch.no_grad():
            return [model(*inputs) for inputs in calls]

    return run_tensor_parallel(1, body)[0]


def run_in_cpp(folder, calls, outputs, degree, tmp_path, *options):
    """The largest difference of what C++ computes."""
    saved = tmp_path / f"calls{degree}{len(options)}"
    run_tensor_parallel(1, lambda rank: pl.save(
        {"calls": [{"inputs": list(inputs), "output": output}
                   for inputs, output in zip(calls, outputs)]}, saved))
    done = subprocess.run([PEER, folder, saved, str(degree), *options],
                          check=True, capture_output=True, text=True)
    difference, elements = done.stdout.split()
    assert int(elements) == sum(output.numel() for output in outputs)
    return float(difference)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_an_mlp(tp, tmp_path):
    calls = [(torch.randn(2, 3, 8),), (torch.randn(5, 7, 8),)]
    wanted = eager(Mlp, calls)
    model = trace.parallel_model_trace(seeded(Mlp), calls[0][0], tp_degree=tp)
    assert isinstance(model, trace.TensorParallelModel)
    assert model.tensor_parallel_size == tp
    assert model.fixed_to_degree is None
    assert "colonnade::column_parallel_linear" in model.graph
    trace.parallel_model_save(model, tmp_path / "traced")
    again = trace.parallel_model_load(tmp_path / "traced")
    other = trace.parallel_model_load(tmp_path / "traced", 3 - min(tp, 2))
    assert again.tensor_parallel_size == tp
    for inputs, output in zip(calls, wanted):
        for one in (model, again, other):
            torch.testing.assert_close(one(*inputs), output)
    for degree in (1, 2):
        assert run_in_cpp(tmp_path / "traced", calls, wanted, degree,
                          tmp_path) <= 1e-6


class Structures(nn.Module):
    def forward(self, pair, table, scale, flag=True):
        a, b = pair
        total = a * scale + table["x"] if flag else b
        return {"sum": total, "list": [a, (b, None)], "rows": a.size(0)}


def test_any_structure_goes_in_and_out():
    a, b, x = torch.ones(4, 2), torch.zeros(3), torch.full((4, 2), 2.0)
    model = trace.parallel_model_trace(
        lambda: Structures(), [(a, b), {"x": x}, 2.0, True])
    with pytest.raises(ValueError, match="input 0 has keys that are strings "
                                         "and keys that are ints"):
        trace.parallel_model_trace(nn.Identity, [{1: a, "x": b}])
    out = model((a, b), {"x": x}, 2.0, True)
    assert torch.equal(out["sum"], a * 2 + x)
    assert isinstance(out["list"], list) and out["list"][1][1] is None
    assert out["rows"] == 4


class Bounded(nn.Module):
    """Takes floats only as far as each goes."""

    def forward(self, x, dropped, scale, fixed):
        assert 0 < scale <= 1 and fixed == 3.0
        x = nn.functional.dropout(x, dropped, self.training)
        return x.reshape(x.size(1), x.size(0)) * scale * fixed


@pytest.mark.parametrize("tp", [1, 2])
def test_floats_vary_where_the_model_takes_others(tp):
    x = torch.arange(8.0).view(2, 4)
    model = trace.parallel_model_trace(Bounded, [x, 0.9, 0.9, 3.0], tp)
    assert model.fixed_to_degree is None
    other = torch.arange(15.0).view(5, 3)
    for dropped, scale in (0.9, 0.9), (0.1, 0.25):
        torch.testing.assert_close(model(other, dropped, scale, 3.0),
                                   other.view(3, 5) * scale * 3)
    with pytest.raises(colonnade.InvalidArgument, match=r"input 3: is 4\., but "
                       r"the graph was recorded with 3\.0 and takes nothing else"):
        model(x, 0.9, 0.9, 4.0)


def test_what_func_raises_reaches_the_caller():
    def func():
        raise KeyError("no such model")

    with pytest.raises(KeyError, match="no such model"):
        trace.parallel_model_trace(func, torch.ones(1), tp_degree=2)


class Disagreeing(Mlp):
    def forward(self, x):
        return super().forward(x[:2 + ps.get_tensor_model_parallel_rank()])


def test_errors_name_the_layer():
    with pytest.raises(colonnade.CommError, match=r"sum\) by layer down but"):
        trace.parallel_model_trace(Disagreeing, torch.ones(4, 8), tp_degree=2)


def test_func_must_return_a_module():
    with pytest.raises(TypeError, match="expected a torch.nn.Module, not "
                                        "<class 'int'>"):
        trace.parallel_model_trace(lambda: 3, torch.ones(1))


class Sizes(nn.Module):
    def forward(self, x):
        return object()


def test_an_output_that_no_graph_has_is_named():
    with pytest.raises(ValueError, match="trace: the output is of type object"):
        trace.parallel_model_trace(Sizes, torch.ones(2))


class Escapes(nn.Module):
    def forward(self, x):
        return x * x.sum().item()


def test_a_float_that_leaves_is_refused():
    with pytest.raises(colonnade.InvalidArgument, match="leaves the graph"):
        trace.parallel_model_trace(Escapes, torch.randn(3))


def test_wrong_inputs_are_named_before_any_rank_starts():
    model = trace.parallel_model_trace(seeded(Mlp), torch.ones(2, 3, 8),
                                       tp_degree=2)
    for inputs, text in [((), "input"),
                         ((torch.ones(2, 3, 9),), "input 0"),
                         ((torch.ones(2, 3, 8).double(),), "input 0"),
                         ((object(),), "input 0 is of type object")]:
        with pytest.raises(colonnade.InvalidArgument, match=text):
            model(*inputs)
    assert model(torch.ones(4, 4, 8)).shape == (4, 4, 8)


def test_calls_of_several_threads():
    model = trace.parallel_model_trace(seeded(Mlp), torch.ones(2, 3, 8),
                                       tp_degree=2)
    model.compare_ranks()
    xs = [torch.randn(2, 3, 8) for _ in range(4)]
    wanted = [model(x) for x in xs]
    failures = []

    def call(i):
        for _ in range(20):
            if not torch.equal(model(xs[i]), wanted[i]):
                failures.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    outputs = model.forward_all_ranks(xs[0])
    assert len(outputs) == 2 and torch.equal(*outputs)


def test_state_and_sessions():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(2))

        def forward(self, x):
            self.total += x
            return self.total * 1

    model = trace.parallel_model_trace(Counter, torch.ones(2))
    other = model.new_session()
    one = torch.ones(2)
    assert model(one).tolist() == [1, 1] and model(one).tolist() == [2, 2]
    assert other(one).tolist() == [1, 1]
    model.reset_state()
    assert model(one).tolist() == [1, 1]


def test_by_ranks_it_is_collective(tmp_path):
    x = torch.randn(2, 3, 8)

    def body(rank):
        model = trace.parallel_model_trace(seeded(Mlp), x, tp_degree=2)
        trace.parallel_model_save(model, tmp_path)
        return model(x)

    one, two = run_tensor_parallel(2, body)
    assert torch.equal(one, two)
    torch.testing.assert_close(trace.parallel_model_load(tmp_path)(x), one)


def test_ranks_inside_func_are_refused():
    def func():
        colonnade.run_ranks(2, lambda: None)

    with pytest.raises(colonnade.InvalidArgument, match="inside a rank"):
        trace.parallel_model_trace(func, torch.ones(1))


def test_damaged_and_missing(tmp_path):
    with pytest.raises(colonnade.CheckpointError, match="nowhere"):
        trace.parallel_model_load(tmp_path / "nowhere")
    model = trace.parallel_model_trace(seeded(Mlp), torch.ones(2, 3, 8))
    trace.parallel_model_save(model, tmp_path)
    graph = tmp_path / "graph.json"
    if not graph.exists():
        graph, = tmp_path.rglob("*graph*.json")
    graph.write_text(graph.read_text().replace("gelu", "relu"))
    with pytest.raises(colonnade.CheckpointError, match="graph"):
        trace.parallel_model_load(tmp_path)


def test_the_interpreter_ends_with_a_model_alive():
    program = ("import torch\nfrom torch import nn\n"
               "from colonnade import trace\n"
               "model = trace.parallel_model_trace(lambda: nn.Linear(4, 4), "
               "torch.ones(2, 4), tp_degree=2)\n"
               "print(model(torch.ones(3, 4)).shape)\n")
    done = subprocess.run([sys.executable, "-c", program], check=True,
                          capture_output=True, text=True, timeout=120)
    assert done.stdout == "torch.Size([3, 4])\n" and done.stderr == ""


def test_a_rank_in_a_group_of_its_own_is_not_needed():
    ps.destroy_model_parallel()
    model = trace.parallel_model_trace(lambda: nn.Linear(4, 2),
                                       torch.ones(2, 4))
    assert not ps.model_parallel_is_initialized()
    assert model(torch.ones(3, 4)).shape == (3, 2)
