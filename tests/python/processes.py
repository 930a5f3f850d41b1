"""Ranks of torch.distributed as processes, forked from one that has imported
torch already."""

import datetime
import multiprocessing
import os
import tempfile
import traceback

import torch
import torch.distributed as dist
# What bodies use, imported once.
import torch.distributed.fsdp  # noqa: F401
import torch.distributed.tensor.parallel  # noqa: F401

import colonnade  # noqa: F401  registers the backend

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["processes"])


def _run(rank, size, store, backend, timeout, environment, body, arguments,
         results):
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            backend, init_method=f"file://{store}", rank=rank, world_size=size,
            timeout=datetime.timedelta(seconds=timeout))
        results.put((rank, body(rank, *arguments), None))
        dist.destroy_process_group()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        raise


def on_processes(size, body, *arguments, backend="colonnade", timeout=60,
                 environment=None, dies=()):
    """Runs `body(rank, *arguments)` on ranks of torch.distributed; what they
    returned, in rank order.

    dies  ranks that return nothing, since they end the process
    """
    results = _context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [_context.Process(
            target=_run, args=(rank, size, f"{folder}/store", backend, timeout,
                               environment or {}, body, arguments, results))
                 for rank in range(size)]
        for process in ranks:
            process.start()
        try:
            returned = {}
            for _ in range(size - len(dies)):
                rank, value, error = results.get(timeout=120)
                assert error is None, f"rank {rank}: {error}"
                returned[rank] = value
            for process in ranks:
                process.join(60)
            assert all(process.exitcode == 0 for rank, process
                       in enumerate(ranks) if rank not in dies)
        finally:
            for process in ranks:
                process.kill()
    return [returned.get(rank) for rank in range(size)]
