"""One process for each device of a training run; what surrounds the training happens once, in the caller's process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessException, spawn

from napari_metastasis.errors import MetastasisError, TrainingError
from napari_metastasis.stopping import held_back, let_through, stoppable

__all__ = ["run_distributed"]

#: Seconds that the processes may take to end once they were asked to.
_GRACE_S = 10.0


def run_distributed(work: Callable[..., None], arguments: tuple[Any, ...], ranks: int) -> None:
    """Call ``work`` in as many processes as there are ranks, and wait for all of them.

    Each finds its rank where Lightning looks for it, in the environment, so that Lightning starts no copies of the
    whole command. On Linux they end with the process that calls this, even if it is killed.

    Parameters
    ----------
    work
        A function of a module; it is called afresh, in a process that shares nothing with this one.
    arguments
        Its arguments, picklable.
    ranks
        Number of processes.

    Raises
    ------
    MetastasisError
        What the first process to fail raised.
    TrainingError
        If a process ended otherwise.
    KeyboardInterrupt
        On Ctrl-C, and where the caller makes one of other signals.
    """
    failures = get_context("spawn").SimpleQueue()
    # Until they know what to do about it, Ctrl-C, which reaches all processes of a terminal, must wait.
    with held_back():
        context = spawn(_rank, (work, arguments, ranks, _free_port(), failures), nprocs=ranks, join=False)  # type: ignore[no-untyped-call]
    try:
        while not context.join():
            pass
    except ProcessException as error:
        if not failures.empty():
            raise failures.get() from error
        raise TrainingError(
            f"expected {ranks} processes to train to the end, got one that ended early: {_last_line(error)}; "
            "--debug tells more, and the same command goes on from the last epoch"
        ) from error
    finally:
        for process in context.processes:
            process.terminate()
        until = time.monotonic() + _GRACE_S
        for process in context.processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                # It waits for another one that is gone. Checkpoints are whole or not there.
                process.kill()
                process.join()


def _rank(
    rank: int, work: Callable[..., None], arguments: tuple[Any, ...], ranks: int, port: int, failures: Any
) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(ranks), NODE_RANK="0", LOCAL_RANK=str(rank)
    )
    with stoppable(""):
        let_through()
        try:
            work(*arguments)
        except MetastasisError as error:
            failures.put(error)
            raise


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]
