"""The examples run, and do what they say; the README shows a program as it
is."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch

from colonnade import parallel_layers as pl
from colonnade._build_info import program
from tensor_parallel import run_tensor_parallel
from torchrun_test import torchrun

ROOT = pathlib.Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "python"
SERVE = os.environ.get("COLONNADE_SERVE", "")
needs_program = pytest.mark.skipif(
    not pathlib.Path(program).exists(), reason="the program is not built")
needs_serve = pytest.mark.skipif(
    not pathlib.Path(SERVE).is_file(), reason="examples/serve.cpp is not built")


def run(name, *arguments):
    """What an example printed."""
    return subprocess.run([sys.executable, EXAMPLES / name, *arguments],
                          check=True, timeout=300, capture_output=True,
                          text=True).stdout


def test_hello(tmp_path):
    assert "loss on two ranks" in run("hello.py", tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of train_llama.py, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run("train_llama.py", folder, "--steps", "200")


def test_training_lowers_the_loss(trained):
    losses = [float(x) for x in re.findall(r"loss (\S+)", trained[1])]
    assert len(losses) == 4 and losses[-1] < 0.6 * losses[0]
    assert trained[1].endswith(f"saved {trained[0]} after step 200\n")


@pytest.fixture(scope="module", params=[1, 2], ids=["dp1", "dp2"])
def two_and_four_steps(request, tmp_path_factory):
    """Checkpoints of so many data-parallel ranks, after so many steps."""
    folders = []
    for steps in ("2", "4"):
        folders.append(tmp_path_factory.mktemp("steps") / "checkpoint")
        run("train_llama.py", folders[-1], "--steps", steps, "--tp", "1",
            "--dp", str(request.param))
    return request.param, *folders


@pytest.mark.parametrize("launcher", ["threads", "torchrun"])
def test_training_goes_on(launcher, two_and_four_steps, tmp_path):
    """On other ranks it ends where a run that never stopped does."""
    dp, two, four = two_and_four_steps
    shutil.copytree(two, tmp_path / "checkpoint")
    arguments = (str(tmp_path / "checkpoint"), "--steps", "2", "--dp", str(dp))
    if launcher == "threads":
        out = run("train_llama.py", *arguments, "--tp", "2")
    else:
        out = torchrun("gloo", 2, str(EXAMPLES / "train_llama.py"), *arguments,
                       "--tp", str(2 // dp))
    assert "goes on after step 2\n" in out
    assert out.count("after step 4\n") == 1
    whole, resumed = (
        run_tensor_parallel(1, lambda _, path=path: pl.load(path))[0]
        for path in (four, tmp_path / "checkpoint"))
    assert whole["run"]["step"] == resumed["run"]["step"] == 4
    for name, tensor in whole["model"].items():
        torch.testing.assert_close(resumed["model"][name], tensor,
                                   rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def traced(trained, tmp_path_factory):
    """A traced model of trace_and_serve.py, and what it wrote."""
    folder = tmp_path_factory.mktemp("traced")
    out = run("trace_and_serve.py", folder, trained[0])
    return folder, re.search("class .*(?=\nthe model that was not traced)",
                             out, re.DOTALL).group()


def test_traces_a_model_without_a_checkpoint(tmp_path):
    assert "writes the same" in run("trace_and_serve.py", tmp_path)


def write(*command, prompt=""):
    return subprocess.run(command, check=True, input=prompt, timeout=300,
                          capture_output=True, text=True,
                          errors="replace").stdout


@needs_program
@pytest.mark.parametrize("degree", ["1", "2"])
def test_the_program_writes_the_same(degree, trained, traced):
    """With the traced model, and with the checkpoint itself, which becomes the
    Llama of C++."""
    options = ("--prompt", "class ", "--tp", degree, "--max-tokens", "60")
    assert write(program, "run", traced[0], *options) == traced[1] + "\n"
    assert write(program, "generate", "--checkpoint", trained[0],
                 *options) == traced[1] + "\n"


@needs_serve
@pytest.mark.parametrize("degree", ["1", "2"])
def test_a_cpp_program_serves_it(degree, traced):
    assert write(SERVE, traced[0], degree, "60",
                 prompt="class \n") == traced[1] + "\n"


def test_convert_hugging_face(tmp_path):
    out = run("convert_hugging_face.py", tmp_path)
    assert "plain: 21 tensors, all equal to the source's" in out
    assert "model.pt: the parts of two ranks are equal to it too" in out


def test_every_example_is_tested():
    tested = pathlib.Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        imported = path.name == "llama.py"  # of two of them
        assert imported or f'run("{path.name}"' in tested


def test_the_readmes_program():
    shown = re.search(r"^```python\n(.*?)^```$",
                      (ROOT / "README.md").read_text(),
                      re.DOTALL | re.MULTILINE).group(1)
    exec(compile(shown, "README.md", "exec"), {})  # noqa: S102
