"""What a worker process of this machine does first, before anything that counts cores is loaded."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from napari_metastasis.stopping import let_through

__all__ = ["CORES", "dask_setup"]

#: Environment variable with the numbers of the cores that a worker may use.
CORES = "NAPARI_METASTASIS_CORES"


def dask_setup(worker: Any) -> None:
    """Bind the process to its cores, and keep it off the terminal; dask calls it by this name."""
    del worker
    cores = [int(core) for core in os.environ.get(CORES, "").split(",") if core]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    # Ctrl-C reaches every process of a terminal; the command alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    let_through()
    # What libraries write goes nowhere: progress and warnings come from the command.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
