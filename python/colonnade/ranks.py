"""How ranks come to be."""

import inspect
from collections.abc import Callable
from typing import Any

from . import _core, _torch_threads


def _takes_rank(body: Callable) -> bool:
    try:
        inspect.signature(body).bind(0)
    except TypeError:
        return False
    except ValueError:  # no signature to be had
        return True
    return True


class _Results:
    """Calls a body on ranks and keeps what it returns."""

    def __init__(self, body: Callable):
        self.values: dict[int, Any] = {}
        self._body = body
        self._takes_rank = _takes_rank(body)

    def __call__(self, rank: int) -> None:
        self.values[rank] = self._body(rank) if self._takes_rank else self._body()

    def in_order(self) -> list:
        return [self.values[rank] for rank in sorted(self.values)]


def run_ranks(n: int, body: Callable, *, backend: str = "",
              timeout: float | None = None, pin: bool = True) -> list:
    """Runs `body` on `n` ranks, each a thread of this process.

    Returns what the ranks returned, in rank order, when all are done. The
    first exception of a rank ends the others and is raised here, with its
    traceback; so does Ctrl-C. torch.compile traces with state of the whole
    process: what is compiled runs on one rank, or on ranks that are processes.

    body     takes the rank in [0, n), or nothing
    backend  a name of the backend table; empty: the one that fits
    timeout  how long a collective may wait for a peer, in seconds; negative
             is for ever, None ten minutes
    pin      pin ranks to their share of the cores, where they go round
    """
    _torch_threads.prepare()
    results = _Results(body)
    _core.run_ranks(n, results, backend, timeout, pin)
    return results.in_order()


def launch(body: Callable, *, threads: int = 1, backend: str = "",
           timeout: float | None = None, pin: bool = True) -> list:
    """Runs `body` on the ranks of the launcher that started this process
    (torchrun, mpirun, srun), one rank here; without one on `threads` thread
    ranks, as `run_ranks` does, also at Ctrl-C. Returns what this process's
    ranks returned.
    """
    _torch_threads.prepare()
    results = _Results(body)
    _core.launch(results, threads, backend, timeout, pin)
    return results.in_order()
