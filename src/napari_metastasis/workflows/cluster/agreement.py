"""Workers are asked whether they would do what this process does, before they are handed anything to scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from napari_metastasis import __version__
from napari_metastasis.errors import ClusterError, MetastasisError, ScanCancelledError, in_one_line
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.workflows.cluster.errands import Seen, Terms
from napari_metastasis.workflows.cluster.worker import look, weights_of
from napari_metastasis.workflows.scan.batch import CohortWork
from napari_metastasis.workflows.scan.job_models import load_job_models

__all__ = ["POLL_S", "SchedulerLink", "agree"]

#: How often the command looks up: for Ctrl-C, for progress, and whether the scheduler is there.
POLL_S = 0.1


class SchedulerLink:
    """A connection to a scheduler, which may break.

    Parameters
    ----------
    client
        A ``distributed.Client``, connected.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    @property
    def is_there(self) -> bool:
        """Return whether the scheduler is."""
        return bool(self.client.status == "running")

    def workers(self) -> Mapping[str, int]:
        """Return the threads of every worker by its address.

        Raises
        ------
        ClusterError
            If the scheduler does not answer.
        """
        try:
            found: Mapping[str, int] = self.client.nthreads()
        except (OSError, TimeoutError, CancelledError):
            self.refuse()
        return found

    def check(self) -> None:
        """Refuse to go on where the scheduler is gone."""
        if not self.is_there:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise the error of a scheduler that is gone."""
        raise ClusterError(
            "expected a scheduler that stays until all slides are scanned, got none that answers any more; start it "
            "and its workers again: the same command goes on from there"
        ) from None


def agree(link: SchedulerLink, work: CohortWork[Any], run: str, should_stop: Callable[[], bool]) -> Terms:
    """Refuse workers that are not fit, and return what those that come later have to fulfil.

    One worker of each machine is asked first: what it measures of its engine, the others of the machine find.

    Parameters
    ----------
    link
        To the scheduler.
    work
        What is to be scanned.
    run
        Name of the run, like no other.
    should_stop
        Asked several times a second.

    Raises
    ------
    ClusterError
        If a worker is not fit, or the scheduler is gone.
    MetastasisError
        If a model or an engine cannot be had.
    """
    while not (workers := link.workers()):
        # All have just died, and come again.
        if should_stop():
            raise _stopped_early()
        time.sleep(POLL_S)
    for address, threads in workers.items():
        if threads != 1:
            raise ClusterError(
                f"expected workers of one thread, since one slide at a time takes all cores of a worker, got {threads} "
                f"at {address}; start them with --nthreads 1"
            )
    terms, probe = _terms(work, run)
    try:
        with_probe = replace(terms, paths=(*([] if probe is None else [probe]), *terms.paths))
        first = {urlsplit(address).hostname: address for address in workers}
        seen: dict[str, Seen] = {}
        for wave in (list(first.values()), [each for each in workers if each not in first.values()]):
            seen |= _looked(link, wave, with_probe, work, should_stop)
    finally:
        if probe is not None:
            with suppress(OSError):
                probe.unlink()
    precisions = {one.precision: address for address, one in seen.items()}
    if len(precisions) > 1:
        said = " and ".join(f"{name} at {address}" for name, address in precisions.items())
        raise ClusterError(f"expected workers that compute in one precision, got {said}; choose one by --precision")
    return terms


def _terms(work: CohortWork[Any], run: str) -> tuple[Terms, Path | None]:
    """Return what workers must have and see, and a file in the folder of results that only this run has."""
    probe = None
    # A slide of each folder will do: of ten thousand, every worker would look for as many.
    here = [slide.path for slide in work.slides if isinstance(slide.path, Path) and slide.path.exists()]
    paths = tuple({path.parent: path for path in here}.values())
    if work.output is not None:
        with storage_errors(work.output):
            work.output.mkdir(parents=True, exist_ok=True)
        probe, paths = work.output / f".napari-metastasis-{run}", (work.output, *paths)
        with atomic_text(probe) as file:
            file.write(run)
    return Terms(run, __version__, weights_of(load_job_models(work.job)), paths), probe


def _looked(
    link: SchedulerLink, workers: Sequence[str], terms: Terms, work: CohortWork[Any], should_stop: Callable[[], bool]
) -> dict[str, Seen]:
    """Return what workers have and see; those that have ended meanwhile are left out."""
    of_one = replace(work, slides=work.slides[:1])
    asked = {
        address: link.client.submit(look, terms, of_one, workers=[address], allow_other_workers=False, pure=False)
        for address in workers
    }
    found: dict[str, Seen] = {}
    try:
        while waiting := [address for address in asked if address not in found]:
            if should_stop():
                raise _stopped_early()
            link.check()
            there = link.workers()
            for address in waiting:
                if asked[address].done():
                    found[address] = _seen(link, asked[address], terms, address)
                elif address not in there:
                    del asked[address]
            time.sleep(POLL_S)
    finally:
        with suppress(Exception):
            link.client.cancel(list(asked.values()))
    return found


def _seen(link: SchedulerLink, future: Any, terms: Terms, address: str) -> Seen:
    try:
        seen: Seen = future.result()
    except MetastasisError:
        raise
    except CancelledError:
        link.refuse()
    # Another version of the program may fail at anything that it is sent, or know nothing of it.
    except Exception as error:
        raise ClusterError(
            f"expected workers with napari-metastasis {__version__}, got {in_one_line(error)} from {address}; install "
            "the same version there"
        ) from error
    if refusal := seen.refusal(terms, address):
        raise ClusterError(refusal)
    return seen


def _stopped_early() -> ScanCancelledError:
    return ScanCancelledError("expected to look at the workers, but was stopped; start it again")
