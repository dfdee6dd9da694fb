"""Where workers come from: processes of this machine, or a scheduler that somebody has started."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import ClusterError, DeviceError, MissingDependencyError, ScanCancelledError, first_line
from napari_metastasis.scanning import never
from napari_metastasis.settings import ClusterSettings, ScanSettings
from napari_metastasis.stopping import held_back
from napari_metastasis.workflows.cluster.agreement import POLL_S
from napari_metastasis.workflows.cluster.preload import CORES
from napari_metastasis.workflows.cluster.preload import __name__ as _preload

if TYPE_CHECKING:
    from napari_metastasis.workflows.cluster.scanner import ClusterScanner

__all__ = ["cores_of", "gpus_of", "open_cluster", "worker_count", "worker_environment"]

#: What libraries that compute take for the number of their threads.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Devices that are shared out among workers; one that is named is everybody's.
_ANY_GPU = ("auto", "cuda")
_CONNECT_S = 10.0
#: How long processes of this machine may take to start.
_START_S = 120.0

#: One errand at a time goes to a worker, and nothing of the environment is changed but what a worker is given: dask's
#: own would have every worker compute with one thread, and hand memory back at once that a network needs again.
_CONFIG = {"distributed.scheduler.worker-saturation": 1.0, "distributed.nanny.pre-spawn-environ": {}}
_LOCAL = "127.0.0.1"


@contextmanager
def open_cluster(
    settings: ClusterSettings, scan: ScanSettings, should_stop: Callable[[], bool] = never
) -> Iterator[ClusterScanner | None]:
    """Yield what scans on several processes or machines; ``None`` where this process is to scan alone.

    Processes of this machine end with the block, workers of a scheduler go on to serve others.

    Parameters
    ----------
    settings
        Which they are.
    scan
        On which devices slides are scanned.
    should_stop
        Asked while workers are waited for.

    Raises
    ------
    MissingDependencyError
        If dask.distributed is not installed.
    DeviceError
        If there is to be a worker for each GPU, and there is none.
    ClusterError
        If the scheduler cannot be reached, or has no worker.
    ScanCancelledError
        If ``should_stop`` said so.
    """
    if not settings.wanted:
        yield None
        return
    try:
        import distributed
    except ImportError as error:
        raise MissingDependencyError(
            "expected dask.distributed for several workers, got none installed; pip install "
            "'napari-metastasis[cluster]', or leave --workers and --scheduler out"
        ) from error
    from napari_metastasis.workflows.cluster.scanner import ClusterScanner

    with ExitStack() as opened:
        if settings.scheduler:
            client = opened.enter_context(_connected(distributed, settings, should_stop))
            dashboard = client.dashboard_link if _has_dashboard(client) else ""
        else:
            client = opened.enter_context(_processes(distributed, settings, scan, should_stop))
            dashboard = client.dashboard_link if _has_bokeh() else ""
        yield ClusterScanner(client, settings, dashboard or "")


def worker_count(asked: int, gpus: Sequence[str]) -> int:
    """Return how many workers there are: as many as asked for, or for 0 one for each GPU.

    Raises
    ------
    DeviceError
        If there is no GPU to make one for.
    """
    if not asked and not gpus:
        raise DeviceError("expected a GPU for each worker, got a machine without one; say how many workers")
    return asked or len(gpus)


def gpus_of(scan: ScanSettings) -> list[str]:
    """Return the GPUs that workers share, as CUDA names them; none where they are not to choose among any."""
    if scan.device not in _ANY_GPU or scan.engine == "openvino":
        return []
    import torch

    count, named = torch.cuda.device_count(), os.environ.get(_VISIBLE, "")
    # A queue that gives a job some of the machine's GPUs names them so.
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def cores_of(number: int, workers: int, cores: Sequence[int]) -> list[int]:
    """Return the cores of one of several workers: neighbours, and as many for each; several share one if need be."""
    if workers > len(cores):
        return [cores[number % len(cores)]]
    first, end = number * len(cores) // workers, (number + 1) * len(cores) // workers
    return list(cores[first:end])


def worker_environment(number: int, workers: int, *, cores: Sequence[int], gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment of one of several workers: its cores, as many threads, and its GPU.

    Parameters
    ----------
    number, workers
        Which worker, from 0, and how many there are.
    cores
        Numbers of the cores that this process may use.
    gpus
        From :func:`gpus_of`.
    """
    own = cores_of(number, workers, cores)
    found = {CORES: ",".join(map(str, own)), **dict.fromkeys(_THREADS, str(len(own)))}
    if len(gpus) > 1:
        found[_VISIBLE] = gpus[number % len(gpus)]
    return found


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _has_bokeh() -> bool:
    return importlib.util.find_spec("bokeh") is not None


def _has_dashboard(client: Any) -> bool:
    """Return whether a scheduler shows a dashboard: without bokeh its page is there and says what is missing."""
    try:
        return bool(client.run_on_scheduler(importlib.metadata.version, "bokeh"))
    # Whatever it answers with: it is not worth a scan.
    except Exception:  # noqa: BLE001
        return False


@contextmanager
def _connected(distributed: Any, settings: ClusterSettings, should_stop: Callable[[], bool]) -> Iterator[Any]:
    """Connect to a scheduler, and wait for its first worker."""
    asked = settings.scheduler
    where = {"scheduler_file": asked} if Path(asked).is_file() else {"address": asked}
    try:
        client = distributed.Client(**where, timeout=_CONNECT_S, set_as_default=False, name="napari-metastasis")
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        raise ClusterError(
            f"expected a dask scheduler at {asked}, got none that answers ({first_line(error)}); start one with 'dask "
            "scheduler', or correct the address"
        ) from error
    try:
        if not _has_workers(client, 1, settings.worker_wait_s, should_stop):
            raise ClusterError(
                f"expected workers at {asked}, got none in {settings.worker_wait_s:g} s; start some with 'dask worker "
                f"{asked} --nthreads 1', or wait longer with --worker-wait-s"
            )
        yield client
    finally:
        _close(client)


@contextmanager
def _processes(
    distributed: Any, settings: ClusterSettings, scan: ScanSettings, should_stop: Callable[[], bool]
) -> Iterator[Any]:
    """Start processes of this machine, each with its own cores, and its own GPU where there are several."""
    import dask

    assert settings.workers is not None
    gpus, cores = gpus_of(scan), _cores()
    count = worker_count(settings.workers, gpus)
    workers = {
        number: {
            "cls": distributed.Nanny,
            "options": {
                "host": _LOCAL,
                "nthreads": 1,
                # A scan bounds its own memory; dask would end workers that hold as much as networks take.
                "memory_limit": None,
                "silence_logs": logging.CRITICAL,
                "dashboard": False,
                "env": worker_environment(number, count, cores=cores, gpus=gpus),
                "preload": [_preload],
            },
        }
        for number in range(count)
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {
            "host": _LOCAL,
            "port": 0,
            "dashboard": _has_bokeh(),
            "dashboard_address": f"{_LOCAL}:0",
            "allowed_failures": settings.retries,
        },
    }
    with ExitStack() as opened:
        opened.enter_context(dask.config.set(_CONFIG))
        # Processes begun in here do not hear Ctrl-C until they know what to do about it.
        with held_back():
            cluster = opened.enter_context(
                distributed.SpecCluster(workers, scheduler, silence_logs=logging.CRITICAL, name="napari-metastasis")
            )
        client = distributed.Client(cluster, set_as_default=False)
        opened.callback(_close, client)
        if not _has_workers(client, count, _START_S, should_stop):
            raise ClusterError(
                f"expected {count} worker processes, got fewer in {_START_S:g} s; ask for fewer, or see what keeps the "
                "machine busy"
            )
        yield client


def _has_workers(client: Any, count: int, wait_s: float, should_stop: Callable[[], bool]) -> bool:
    """Wait for so many workers, and return whether they came.

    Raises
    ------
    ScanCancelledError
        If ``should_stop`` said so.
    """
    until = time.monotonic() + wait_s
    while len(client.nthreads()) < count:
        if should_stop():
            raise ScanCancelledError("expected to wait for workers, but was stopped; start it again")
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def _close(client: Any) -> None:
    """Leave a scheduler, which may be gone."""
    with suppress(Exception):
        client.close(timeout=2)
