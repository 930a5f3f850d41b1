import collections
import json
import math
import os
import pathlib
import subprocess

import pytest
import safetensors.torch
import torch
from torch import nn

import colonnade
from colonnade import parallel_layers as pl
from colonnade import parallel_state as ps
from tensor_parallel import run_tensor_parallel

PEER = os.environ["COLONNADE_CHECKPOINT_PEER"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = pl.ColumnParallelLinear(8, 12, gather_output=False)
        self.down = pl.RowParallelLinear(12, 8, input_is_parallel=True)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


def dense():
    torch.manual_seed(1)
    return nn.ModuleDict({"up": nn.Linear(8, 12), "down": nn.Linear(12, 8)})


X = torch.arange(16.0).view(2, 8) / 16


def step(model, optimizer):
    optimizer.zero_grad()
    model(X).pow(2).sum().backward()
    optimizer.step()


def make():
    model = Model()
    return model, torch.optim.AdamW(model.parameters(), 1e-2)


def whole_of(model):
    return {name: pl.gather_parameter(p)
            for name, p in model.named_parameters()}


@pytest.mark.parametrize("saved_at, loaded_at", [(1, 2), (2, 1), (2, 4),
                                                 (4, 2), (2, 2)])
def test_goes_on_at_another_degree(saved_at, loaded_at, tmp_path):
    """Steps after a load are those of a run that never stopped."""
    def train(rank):
        model, optimizer = make()
        step(model, optimizer)
        pl.save({"model": model.state_dict(),
                 "optimizer": pl.state_dict(optimizer, model), "step": 1},
                tmp_path)
        step(model, optimizer)
        return whole_of(model)

    def go_on(rank):
        model, optimizer = make()
        rest = pl.load(tmp_path, model)
        assert rest["step"] == 1 and set(rest) == {"optimizer", "step"}
        pl.load_state_dict(optimizer, model, rest["optimizer"])
        step(model, optimizer)
        return whole_of(model)

    wanted = run_tensor_parallel(saved_at, train)[0]
    got = run_tensor_parallel(loaded_at, go_on, seed=2)[0]
    assert wanted.keys() == got.keys()
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name])


@pytest.mark.parametrize("python_at, cpp_at", [(1, 2), (2, 1), (2, 2)])
def test_goes_on_in_cpp_and_back(python_at, cpp_at, tmp_path):
    folder = tmp_path / "checkpoint"

    def two_steps(rank):
        model, optimizer = make()
        step(model, optimizer)
        pl.save({"model": model.state_dict(),
                 "optimizer": pl.state_dict(optimizer, model), "step": 1},
                folder)
        for _ in range(2):
            step(model, optimizer)
        return whole_of(model)

    wanted = run_tensor_parallel(python_at, two_steps)[0]
    subprocess.run([PEER, "load", folder, str(cpp_at)], check=True)

    def back(rank):
        model, optimizer = make()
        rest = pl.load(f"{folder}.more", model)
        assert rest["step"] == 2
        pl.load_state_dict(optimizer, model, rest["optimizer"])
        step(model, optimizer)
        return whole_of(model)

    got = run_tensor_parallel(python_at, back, seed=3)[0]
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name])


def test_starts_from_the_bits_of_cpp(tmp_path):
    """One seed, one step: the same checkpoint from both languages."""
    subprocess.run([PEER, "save", tmp_path / "cpp", "2"], check=True)

    def body(rank):
        model, optimizer = make()
        step(model, optimizer)
        pl.save({"model": model.state_dict(),
                 "optimizer": pl.state_dict(optimizer, model), "step": 1},
                tmp_path / "python")
        one, two = pl.load(tmp_path / "python"), pl.load(tmp_path / "cpp")
        for name in one["model"]:
            torch.testing.assert_close(one["model"][name], two["model"][name])
        assert set(one["model"]) == set(two["model"])
        assert one["step"] == two["step"] == 1
        assert (one["optimizer"]["param_groups"]
                == two["optimizer"]["param_groups"])

    run_tensor_parallel(2, body)


VALUES = {
    "tensor": torch.arange(6).view(2, 3),
    "numbers": [1, -2.5, 2**62, math.inf, True],
    "nothing": None,
    "tuple": (1, ("two", [3])),
    "size": torch.Size([2, 3]),
    "text": "é",
    7: {"nested": collections.OrderedDict(x=torch.ones(1))},
}


def test_values_come_back_as_what_they_were(tmp_path):
    def body(rank):
        pl.save(VALUES, tmp_path)
        back = pl.load(tmp_path)
        assert list(back) == list(VALUES)
        assert torch.equal(back.pop("tensor"), VALUES["tensor"])
        assert torch.equal(back[7]["nested"].pop("x"), torch.ones(1))
        assert back == {"numbers": [1, -2.5, 2**62, math.inf, True],
                        "nothing": None, "tuple": (1, ("two", [3])),
                        "size": (2, 3), "text": "é", 7: {"nested": {}}}
        assert type(back["numbers"][4]) is bool

    run_tensor_parallel(2, body)
    values = pl.load_values(tmp_path)  # without ranks
    assert values["tensor"] is None and values["text"] == "é"


def test_nan_comes_back(tmp_path):
    def body(rank):
        pl.save({"x": math.nan}, tmp_path)
        assert math.isnan(pl.load(tmp_path)["x"])

    run_tensor_parallel(1, body)


class Odd:
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize("value, text", [
    ({"a": {"b": [0, Odd()]}},
     "save: a.b.1 is of type checkpoint_test.Odd; a state dict holds tensors"),
    ({"a": Point(1, 2)}, "a is of type checkpoint_test.Point"),
    ({"a": 1j}, "a is of type complex"),
    ({"a": {2.5: 1}}, "save: a has a key of type float; keys are strings"),
    ({True: 1}, "the state dict has a key of type bool"),
    ({"a": 2**70}, "a: the int 1180591620717411303424 has more than 64 bits"),
    ([1], "save: the state dict is of type list; give a dict"),
])
def test_anything_else_is_named(value, text, tmp_path):
    def body(rank):
        with pytest.raises(colonnade.InvalidArgument, match=text):
            pl.save(value, tmp_path)

    run_tensor_parallel(1, body)


def test_files_are_the_guides(tmp_path):
    def body(rank):
        pl.save({"model": Model().state_dict()}, str(tmp_path))

    run_tensor_parallel(2, body)
    for rank in range(2):
        file, = (tmp_path / f"tp_rank_{rank}").glob("*.safetensors")
        tensors = safetensors.torch.load_file(file)
        assert tensors["model.up.weight"].shape == (6, 8)
    assert json.loads((tmp_path / "manifest.json").read_text())


def test_only_data_parallel_rank_0_writes(tmp_path):
    def body(rank):
        ps.initialize_model_parallel(2)
        colonnade.manual_seed(1)
        pl.save({"model": Model().state_dict()}, tmp_path)
        return sorted(p.name for p in tmp_path.iterdir())

    found = colonnade.run_ranks(4, body)
    assert {"manifest.json", "tp_rank_0", "tp_rank_1"} <= set(found[3])
    assert "tp_rank_2" not in found[3]


def test_keys_that_do_not_fit_are_all_listed(tmp_path):
    def body(rank):
        pl.save({"model": {"up.weight": torch.zeros(3, 8), "other": torch.ones(1)}},
                tmp_path)
        model = Model()
        before = model.up.weight.clone()
        with pytest.raises(colonnade.InvalidArgument) as caught:
            pl.load(tmp_path, model)
        for text in ("missing: down.weight", "unexpected: other",
                     "mismatched: up.weight"):
            assert text in str(caught.value)
        assert torch.equal(model.up.weight, before)

    run_tensor_parallel(2, body)


def test_a_damaged_file_is_named(tmp_path):
    def save(rank):
        pl.save({"model": Model().state_dict()}, tmp_path)

    run_tensor_parallel(2, save)
    file, = (tmp_path / "tp_rank_1").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-4])

    def load(rank):
        with pytest.raises(colonnade.CheckpointError, match=file.name):
            pl.load(tmp_path, Model())

    run_tensor_parallel(2, load)


def test_a_folder_that_is_not_there(tmp_path):
    def body(rank):
        with pytest.raises(colonnade.CheckpointError, match="nowhere"):
            pl.load(tmp_path / "nowhere", model=Model())

    run_tensor_parallel(2, body)


def test_model_key_and_model_only(tmp_path):
    def body(rank):
        one, two, three = Model(), Model(), Model()
        pl.save({"net": one.state_dict(), "x": 1}, tmp_path)
        assert pl.load(tmp_path, two, model_key="net") == {"x": 1}
        pl.load_model(tmp_path, three, "net")
        for other in (two, three):
            assert all(map(torch.equal, one.parameters(), other.parameters()))

    run_tensor_parallel(2, body)


def test_without_a_model_at_another_degree(tmp_path):
    """What is loaded without a model is still a shard, and can be saved."""
    def one(rank):
        pl.save({"model": Model().state_dict()}, tmp_path / "a")

    def two(rank):
        state = pl.load(tmp_path / "a")
        attributes = pl.get_tensor_parallel_attributes(
            state["model"]["up.weight"])
        assert attributes.spec.whole_size == 12 and attributes.group == "tp"
        pl.save(state, tmp_path / "b")

    def three(rank):
        model = Model()
        pl.load(tmp_path / "b", model)
        return model.up.weight.detach()

    run_tensor_parallel(2, one)
    run_tensor_parallel(4, two)
    assert torch.equal(run_tensor_parallel(1, three, seed=5)[0],
                       dense()["up"].weight)


@pytest.mark.parametrize("kind", ["folder", "file", "pt"])
def test_unsharded_files(kind, tmp_path):
    whole = dense().state_dict()
    if kind == "pt":
        path = tmp_path / "model.pt"
        torch.save(whole, path)
    else:
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_file(whole, path)
        path = tmp_path if kind == "folder" else path

    def body(rank):
        model = Model()
        assert pl.load(path, model, sharded=False) == {}
        got = whole_of(model)
        assert all(torch.equal(got[name], whole[name]) for name in whole)

    run_tensor_parallel(2, body, seed=9)


def test_unsharded_keys_that_do_not_fit(tmp_path):
    torch.save({"up.weight": torch.zeros(3, 8), "other": torch.ones(1)},
               tmp_path / "model.pt")

    def body(rank):
        with pytest.raises(colonnade.InvalidArgument) as caught:
            pl.load(tmp_path / "model.pt", Model(), sharded=False)
        for text in (r"missing: up.bias, [12] in the model",
                     "unexpected: other, [1] to load",
                     "mismatched: up.weight, [12, 8] in the model, but [3, 8]"):
            assert text in str(caught.value)

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("error, found", [
    (colonnade.CheckpointError, "on rank 1: load_torch: there is no file"),
    (colonnade.CheckpointError, "on rank 1: load_torch: .* is not a file of"),
    (colonnade.InvalidArgument, "on rank 1: .* does not fit the model:"),
    (colonnade.InvalidArgument, "on rank 1: .* holds a list; expected")])
def test_a_torch_file_that_one_rank_cannot_load(error, found, tmp_path):
    torch.save(dense().state_dict(), tmp_path / "0.pt")
    if "is not" in found:
        (tmp_path / "1.pt").write_bytes(b"no zip")
    elif "does not fit" in found:
        torch.save({"up.weight": torch.zeros(12, 8)}, tmp_path / "1.pt")
    elif "holds" in found:
        torch.save([1], tmp_path / "1.pt")

    def body(rank):
        model = Model()
        before = whole_of(model)
        with pytest.raises(error, match=found):
            pl.load(tmp_path / f"{rank}.pt", model, sharded=False)
        after = whole_of(model)
        assert all(torch.equal(after[name], before[name]) for name in before)

    run_tensor_parallel(2, body, seed=9)


def test_unsharded_needs_a_model(tmp_path):
    def body(rank):
        with pytest.raises(colonnade.InvalidArgument, match="needs a model"):
            pl.load(tmp_path, sharded=False)

    run_tensor_parallel(1, body)


def test_load_torch_refuses_code(tmp_path):
    torch.save({"x": Odd()}, tmp_path / "odd.pt")
    with pytest.raises(colonnade.CheckpointError, match="odd.pt is not a file"):
        colonnade.load_torch(tmp_path / "odd.pt")
    with pytest.raises(colonnade.CheckpointError, match="there is no file"):
        colonnade.load_torch(tmp_path / "none.pt")


def test_save_unsharded(tmp_path):
    def body(rank):
        pl.save_unsharded(Model(), tmp_path)

    run_tensor_parallel(2, body)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    wanted = dense().state_dict()
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def test_ties_stay_ties(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = pl.ParallelEmbedding(12, 8)
            self.head = pl.ColumnParallelLinear(8, 12, bias=False)
            self.head.weight = self.embedding.weight

    def body(rank):
        one, two = Tied(), Tied()
        pl.save({"model": one.state_dict()}, tmp_path)
        pl.load(tmp_path, two)
        assert two.head.weight is two.embedding.weight
        assert torch.equal(one.head.weight, two.head.weight)

    run_tensor_parallel(2, body)


def test_buffers_but_those_that_are_not_saved(tmp_path):
    def make():
        model = nn.Module()
        model.register_buffer("kept", torch.ones(2))
        model.register_buffer("left", torch.ones(2), persistent=False)
        return model

    def body(rank):
        one, two = make(), make()
        one.kept += 1
        pl.save({"model": one.state_dict()}, tmp_path)
        pl.load(tmp_path, two)
        assert torch.equal(two.kept, one.kept)

    run_tensor_parallel(2, body)


def test_into_a_model_on_meta(tmp_path):
    def body(rank):
        one = Model()
        pl.save({"model": one.state_dict()}, tmp_path)
        with torch.device("meta"):
            two = Model()
        two.down.reset_parameters()
        pl.move_model_to_device(two, "cpu")
        pl.load(tmp_path, two)
        assert all(map(torch.equal, one.parameters(), two.parameters()))

    run_tensor_parallel(2, body)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad,
                                  torch.optim.Adam])
def test_other_optimizers(kind, tmp_path):
    def build():
        model = Model()
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return model, kind(model.parameters(), lr=0.1, **options)

    def body(rank):
        model, optimizer = build()
        step(model, optimizer)
        pl.save({"model": model.state_dict(),
                 "optimizer": pl.state_dict(optimizer, model)}, tmp_path)
        step(model, optimizer)
        again, other = build()
        rest = pl.load(tmp_path, again)
        pl.load_state_dict(other, again, rest["optimizer"])
        step(again, other)
        for a, b in zip(model.parameters(), again.parameters()):
            assert torch.equal(a, b)

    run_tensor_parallel(2, body)


def test_optimizer_state_that_does_not_fit():
    def body(rank):
        model, optimizer = make()
        stranger = torch.optim.SGD([torch.zeros(2, requires_grad=True)], 0.1)
        with pytest.raises(ValueError, match="parameter 0 of the optimizer's "
                                             r"group 0, of shape \[2\]"):
            pl.state_dict(stranger, model)
        with pytest.raises(ValueError, match=r"state_dict\(optimizer, model\)"):
            pl.state_dict(optimizer)
        state = pl.state_dict(optimizer, model)
        state["param_groups"][0]["params"].pop()
        with pytest.raises(ValueError, match="the saved ones"):
            pl.load_state_dict(optimizer, model, state)

    run_tensor_parallel(1, body)
