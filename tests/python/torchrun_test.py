"""Ranks that are processes, with torchrun and torch.distributed over its Gloo
and over Colonnade: the tests of layers, modules, parallelize and the API once
more, and what is torch.distributed's own."""

import os
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent


BACKENDS = pytest.mark.parametrize("backend", ["gloo", "colonnade"])


def torchrun(backend, ranks, *command):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc-per-node={ranks}", *command],
        capture_output=True, text=True, timeout=200, cwd=FOLDER,
        env={**os.environ, "TEST_BACKEND": backend})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@BACKENDS
@pytest.mark.parametrize("ranks, file", [(2, "layers_test.py"),
                                         (4, "layers_test.py"),
                                         (2, "modules_test.py"),
                                         (2, "parallelize_test.py"),
                                         (2, "api_test.py")])
def test_on_processes(backend, ranks, file):
    out = torchrun(backend, ranks, "-m", "pytest", "-q", "-p",
                   "no:cacheprovider", file)
    assert out.count(" passed") == ranks and " failed" not in out


@BACKENDS
def test_torchs_own_groups(backend):
    assert torchrun(backend, 4, "torch_groups.py").count("fine\n") == 4


def test_ends_without_being_told():
    """A program need not destroy its groups, nor wait for its calls."""
    torchrun("colonnade", 2, "--no-python", sys.executable, "-c", """
import torch, torch.distributed as dist, colonnade
dist.init_process_group("colonnade")
for _ in range(5):
    dist.all_reduce(torch.ones(1 << 20), async_op=True)
""")
