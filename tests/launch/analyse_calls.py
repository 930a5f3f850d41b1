"""Runs the flight-recorder analyser of a torch wheel, without the libraries
that the whole of torch needs.

usage: analyse_calls.py TORCH ARGUMENT...
"""

import os
import sys
import types

for name in ("torch", "torch.distributed"):
    package = types.ModuleType(name)
    package.__path__ = [os.path.join(sys.argv[1], *name.split(".")[1:])]
    sys.modules[name] = package

from torch.distributed.flight_recorder import fr_trace  # noqa: E402

fr_trace.main(sys.argv[2:])
