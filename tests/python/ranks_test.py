import contextlib
import copy
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback

import pytest
import torch

import colonnade
from colonnade import parallel_state as ps


def test_returns_what_ranks_return_in_their_order():
    assert colonnade.run_ranks(4, lambda rank: rank * rank) == [0, 1, 4, 9]


def test_takes_a_body_without_the_rank():
    seen = []
    assert colonnade.run_ranks(3, lambda: seen.append(1)) == [None] * 3
    assert seen == [1, 1, 1]


def test_ranks_are_threads_of_this_process():
    ids = colonnade.run_ranks(2, lambda: (os.getpid(), threading.get_ident()))
    assert {pid for pid, _ in ids} == {os.getpid()}
    assert len({ident for _, ident in ids}) == 2


def test_raises_the_first_exception_with_its_traceback():
    def fails_here(rank):
        ps.initialize_model_parallel(2)
        if rank == 1:
            raise KeyError("the first")
        ps.get_tensor_model_parallel_group().barrier()

    with pytest.raises(KeyError, match="the first") as caught:
        colonnade.run_ranks(2, fails_here)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "fails_here"


def test_the_others_hear_who_failed():
    heard = []

    def body(rank):
        try:  # rank 1 may fail before rank 0 has its groups
            ps.initialize_model_parallel(2)
            if rank == 1:
                raise ValueError("no more")
            ps.get_tensor_model_parallel_group().barrier()
        except colonnade.CommError as error:
            heard.append(str(error))
            raise

    with pytest.raises(ValueError, match="no more"):
        colonnade.run_ranks(2, body)
    assert "rank 1" in heard[0] and "no more" in heard[0]


def test_refuses_ranks_inside_a_rank():
    with pytest.raises(colonnade.InvalidArgument, match="inside a rank"):
        colonnade.run_ranks(2, lambda: colonnade.run_ranks(2, lambda: None))


def test_refuses_no_ranks():
    with pytest.raises(ValueError, match="the number of ranks is 0"):
        colonnade.run_ranks(0, lambda: None)


def test_refuses_an_unknown_backend():
    with pytest.raises(ValueError, match="there is none called \"pigeons\""):
        colonnade.run_ranks(2, lambda: None, backend="pigeons")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_nccl_says_what_is_missing():
    with pytest.raises(colonnade.InvalidArgument,
                       match="backend nccl cannot be used: (there is no CUDA "
                             "device|torch's CUDA libraries are not loaded)"):
        colonnade.run_ranks(2, lambda: None, backend="nccl")


def test_takes_a_timeout():
    def body(rank):
        ps.initialize_model_parallel(2)
        group = ps.get_tensor_model_parallel_group()
        assert group.timeout == 0.2
        if rank == 0:
            group.barrier()
        time.sleep(1)

    with pytest.raises(colonnade.CommError, match="200 ms|0.2 s"):
        colonnade.run_ranks(2, body, timeout=0.2)


def test_takes_any_timeout():
    def body(rank):
        ps.initialize_model_parallel(2)
        group = ps.get_tensor_model_parallel_group()
        a_year = 365 * 24 * 3600
        assert group.timeout == a_year
        group.timeout = 1e12
        assert group.timeout == a_year
        group.timeout = -1e300
        assert group.timeout < 0
        with pytest.raises(colonnade.InvalidArgument, match="not a number"):
            group.timeout = float("nan")
        if rank == 1:
            time.sleep(0.1)
        group.barrier()

    colonnade.run_ranks(2, body, timeout=float("inf"))


def test_launch_makes_the_thread_ranks_asked_for():
    assert colonnade.launch(lambda rank: rank, threads=3) == [0, 1, 2]


def test_ranks_have_the_callers_grad_mode():
    def grad_mode():
        return torch.is_grad_enabled()

    with torch.no_grad():
        assert colonnade.run_ranks(2, grad_mode) == [False, False]
    assert colonnade.run_ranks(2, grad_mode) == [True, True]


def test_other_python_threads_run_while_ranks_wait():
    """Nothing holds the interpreter while it waits."""
    ticks = []

    def body(rank):
        ps.initialize_model_parallel(2)
        group = ps.get_tensor_model_parallel_group()
        if rank == 0:
            group.barrier()  # rank 1 comes late
        else:
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                ticks.append(1)
                time.sleep(0.01)
            group.barrier()

    colonnade.run_ranks(2, body)
    assert len(ticks) > 5


def test_collectives_of_a_group():
    def body(rank):
        ps.initialize_model_parallel(2)
        group = ps.get_tensor_model_parallel_group()
        assert (group.rank(), group.size()) == (rank, 2)
        assert (group.name, group.ranks) == ("tp", [0, 1])
        own = torch.tensor([rank + 1.0, rank + 2.0])
        summed, largest = own.clone(), own.clone()
        group.all_reduce(summed)
        group.all_reduce(largest, "max")
        gathered = torch.empty(4)
        group.all_gather(gathered, own)
        part = torch.empty(1)
        group.reduce_scatter(part, own, op="min")
        sent = own.clone()
        group.broadcast(sent, 1)
        swapped = torch.empty(2)
        group.all_to_all(swapped, own)
        received = torch.empty(2)
        if rank == 0:
            group.send(own, 1)
        else:
            group.recv(received, 0)
        group.barrier()
        with pytest.raises(ValueError, match="no reduction \"mean\""):
            group.all_reduce(own, "mean")
        return [x.tolist() for x in (summed, largest, gathered, part, sent,
                                     swapped, received)]

    first, second = colonnade.run_ranks(2, body)
    assert first[:-1] == [[3, 5], [2, 3], [1, 2, 2, 3], [1], [2, 3], [1, 2]]
    assert second == [[3, 5], [2, 3], [1, 2, 2, 3], [2], [2, 3], [2, 3],
                      [1, 2]]


def test_errors_are_what_python_expects_too():
    assert issubclass(colonnade.InvalidArgument, ValueError)
    for error in (colonnade.InvalidArgument, colonnade.CommError,
                  colonnade.CheckpointError):
        assert issubclass(error, colonnade.Error)
        assert issubclass(error, RuntimeError)
        assert error.__module__ == "colonnade" and error.__doc__


def test_draws_are_each_ranks_own():
    """Thread ranks do not race on torch's one generator."""
    def body(rank):
        ps.initialize_model_parallel(2)
        colonnade.manual_seed(7)
        draws = [torch.randn(100) for _ in range(20)]
        with colonnade.random.tensor_parallel_random():
            apart = torch.randn(100)
        again = torch.randn(3)
        return torch.stack(draws), apart, again

    one, two = colonnade.run_ranks(2, body)
    torch.manual_seed(7)
    wanted = torch.stack([torch.randn(100) for _ in range(20)])
    assert torch.equal(one[0], wanted) and torch.equal(two[0], wanted)
    assert not torch.equal(one[1], two[1])
    assert torch.equal(one[2], two[2])


def test_random_state_is_put_back():
    def body():
        ps.initialize_model_parallel(2)
        colonnade.manual_seed(1)
        state = colonnade.random_state()
        first = torch.randn(5)
        colonnade.set_random_state(state)
        assert torch.equal(torch.randn(5), first)

    colonnade.run_ranks(2, body)


def test_torchs_seeds_and_states_are_a_ranks_own():
    torch.manual_seed(1)
    torchs = torch.get_rng_state()

    def body(rank):
        ps.initialize_model_parallel(2)
        torch.manual_seed(7)
        assert torch.initial_seed() == 7
        alike = torch.rand(3)
        with colonnade.random.tensor_parallel_random():
            apart = torch.rand(3)
        state = torch.get_rng_state()
        drawn = torch.rand(3)
        with torch.random.fork_rng():
            torch.manual_seed(8)
            torch.rand(5)
        goes_on = torch.rand(3)
        torch.set_rng_state(state)
        assert torch.equal(torch.rand(3), drawn)
        assert torch.equal(torch.rand(3), goes_on)
        # What knows of one generator only is a state of the current one.
        torch.set_rng_state(torchs)
        from_outside = torch.rand(3)
        torch.manual_seed(7)
        with colonnade.random.tensor_parallel_random():
            assert torch.equal(torch.rand(3), apart)
        with pytest.raises(RuntimeError, match="state"):
            torch.set_rng_state(torch.zeros(3, dtype=torch.uint8))
        with pytest.raises(ValueError, match="Overflow"):
            torch.manual_seed(1 << 64)
        torch.manual_seed(-1)
        assert torch.initial_seed() == 2**64 - 1
        return alike, apart, from_outside, torch.seed()

    one, two = colonnade.run_ranks(2, body)
    assert torch.equal(torch.get_rng_state(), torchs)
    for own in one, two:
        assert torch.equal(own[0], torch.rand(
            3, generator=torch.Generator().manual_seed(7)))
        assert torch.equal(own[2], torch.rand(
            3, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(one[1], two[1])
    assert one[3] != two[3]


def test_torchs_states_of_ranks_are_copied_and_saved(tmp_path):
    def body(rank):
        ps.initialize_model_parallel(2)
        with colonnade.random.tensor_parallel_random():
            torch.rand(3)
        state = torch.get_rng_state()
        torch.save(state, tmp_path / f"{rank}.pt")
        with colonnade.random.tensor_parallel_random():
            wanted = torch.rand(3)
        for again in (copy.deepcopy(state),
                      torch.load(tmp_path / f"{rank}.pt")):
            torch.set_rng_state(again)
            with colonnade.random.tensor_parallel_random():
                assert torch.equal(torch.rand(3), wanted)

    colonnade.run_ranks(2, body)


def test_outside_ranks_torchs_functions_are_torchs():
    assert torch.manual_seed(3) is torch.default_generator
    assert torch.random.default_generator.device == torch.device("cpu")
    assert torch.equal(torch.get_rng_state(),
                       torch.default_generator.get_state())
    assert torch.seed() == torch.default_generator.initial_seed()


def test_another_torch_is_refused():
    with pytest.raises(ImportError, match=r"built with torch 2.11.0, but torch "
                       r"2.12.1\+cpu is installed; install torch 2.11.0"):
        colonnade._check_torch("2.12.1+cpu", "2.11.0")
    colonnade._check_torch("2.11.3", "2.11.0")


INTERRUPTED = {
    "one in Python, one waiting": "spin() if rank == 0 else wait()",
    "in Python": "spin()",
}
STARTS = ["run_ranks(2, body)", "launch(body, threads=2)"]


@contextlib.contextmanager
def interruptible(body, start):
    """A program whose ranks say that they are ready, and then do `body`."""
    program = textwrap.dedent(f"""
        import colonnade, os
        from colonnade import parallel_state as ps
        def spin():
            while True:
                pass
        def wait():
            ps.get_tensor_model_parallel_group().barrier()
        def swallow():
            try:
                spin()
            except KeyboardInterrupt:
                os.write(1, b"swallowed\\n")
                spin()
        def body(rank):
            ps.initialize_model_parallel(2)
            os.write(1, b"ready\\n")
            {body}
        colonnade.{start}
    """)
    with subprocess.Popen([sys.executable, "-c", program], text=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def interrupt_after(child, lines):
    for line in lines:
        assert child.stdout.readline() == line
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)


def assert_interrupted(child, start):
    errors = child.communicate(timeout=60)[1]
    assert child.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert start in errors


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("body", INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_all_ranks(body, start):
    with interruptible(body, start) as child:
        interrupt_after(child, ["ready\n"] * 2)
        assert_interrupted(child, start.partition("(")[0])


def test_ctrl_c_reaches_a_rank_that_has_swallowed_one():
    with interruptible("swallow()", STARTS[0]) as child:
        interrupt_after(child, ["ready\n"] * 2)
        interrupt_after(child, ["swallowed\n"] * 2)
        assert_interrupted(child, "run_ranks")


def test_the_package_is_typed():
    folder = pathlib.Path(colonnade.__file__).parent
    assert (folder / "py.typed").exists()
