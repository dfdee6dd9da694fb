"""The run folders of retrainings: which there are, what each is at, and what a person decided on what came out.

Whoever begins a retraining need not be there when it ends: all that is known of it lies in its folder.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from napari_metastasis.errors import MetastasisError, StorageError
from napari_metastasis.models import list_models, own_models_folder
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text, storage_errors
from napari_metastasis.workflows.retrain.run_job import RunJob
from napari_metastasis.workflows.retrain.run_log import CANCEL, STOP, RunState, is_at_work, read_run_log

__all__ = [
    "LOG",
    "Run",
    "begin_run",
    "decide_run",
    "look_at_run",
    "next_name",
    "note_job",
    "open_runs",
    "restart_run",
    "runs_folder",
    "wish",
]

#: Files of a run folder: what is to be learnt, what came out, what a person decided on it, and what was complained of.
_JOB, VERDICT, _DECISION, LOG = "job.json", "verdict.json", "decision.json", "log.txt"
#: A process that was begun loads libraries first: for so long it says nothing.
_SILENT_S = 180.0
_VERSION = re.compile(r"-v(\d+)$")
#: Characters of a complaint that are shown.
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Run:
    """A retraining, as its folder has it.

    Attributes
    ----------
    folder
        The run folder.
    job
        What it learns from.
    kind
        "starting" until its process says something, "running", "ended" with a new model, "failed", or "interrupted"
        where its process was killed: the same command goes on.
    state
        What it is at.
    verdict
        What ``verdict.json`` says; empty before it ended.
    failed
        Why it failed, in one line; empty where it did not.
    """

    folder: Path
    job: RunJob
    kind: Literal["starting", "running", "ended", "failed", "interrupted"]
    state: RunState
    verdict: Mapping[str, Any]
    failed: str = ""


def runs_folder() -> Path:
    """Return where the run folders of this user lie."""
    return own_models_folder().parent / "retraining"


def next_name(model: str, taken_too: Iterable[str] = ()) -> str:
    """Return the name of a model's next version that no model has, and none of some others."""
    stem = _VERSION.sub("", model)
    held = [*(one.name for one in list_models()), *taken_too]
    taken = [int(found[1]) for name in held if _VERSION.sub("", name) == stem and (found := _VERSION.search(name))]
    return f"{stem}-v{max(taken, default=1) + 1}"


def note_job(folder: Path, job: RunJob) -> None:
    """Write down what a run learns from, in its folder.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    """
    with atomic_text(folder / _JOB) as stream:
        json.dump(job.to_json(), stream, indent=2)


def begin_run(
    results: tuple[Path, ...], *, model: str, name: str, budget_s: float, patches: Path | None = None
) -> tuple[Path, RunJob]:
    """Make the folder of a new run; its process is the caller's to start.

    Parameters
    ----------
    results, budget_s, patches
        As :class:`RunJob` takes them; they are noted as absolute paths, since the run works in its own folder.
    model
        Name or path of the detector.
    name
        Its name, from which that of the new one is made.

    Returns
    -------
    The folder, and what is to be run there.

    Raises
    ------
    StorageError
        If the folder cannot be made.
    """
    # A model that waits to be kept has its name, too.
    taken = [one.job.name for one in open_runs()]
    job = RunJob(
        results=tuple(one.absolute() for one in results),
        model=model,
        name=next_name(name, taken),
        budget_s=budget_s,
        begun=time.time(),
        patches=None if patches is None else patches.absolute(),
    )
    stem = f"{job.name}-{time.strftime('%Y-%m-%dT%H-%M-%S')}"
    with storage_errors(runs_folder()):
        runs_folder().mkdir(parents=True, exist_ok=True)
        folder = next(one for one in (runs_folder() / f"{stem}{tail}" for tail in _tails()) if not one.exists())
        folder.mkdir()
    note_job(folder, job)
    return folder, job


def restart_run(run: Run) -> RunJob:
    """Note that a run is begun again, and return what is to be run.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    """
    job = replace(run.job, begun=time.time())
    with storage_errors(run.folder):
        for name in (STOP, CANCEL, _DECISION):
            (run.folder / name).unlink(missing_ok=True)
    note_job(run.folder, job)
    return job


def wish(folder: Path, name: str) -> None:
    """Ask a run to end.

    Parameters
    ----------
    folder
        Of the run.
    name
        :data:`~napari_metastasis.workflows.retrain.run_log.STOP` where what was learnt is to be kept, or ``CANCEL``.

    Raises
    ------
    StorageError
        If it cannot be asked.
    """
    with storage_errors(folder / name):
        (folder / name).touch()


def decide_run(folder: Path, *, kept: bool) -> None:
    """Note that a person kept what came out of a run, or not; it is offered no more, and nothing is deleted.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    """
    with atomic_text(folder / _DECISION) as stream:
        json.dump({"kept": kept, "at": round(time.time())}, stream)


def open_runs() -> tuple[Run, ...]:
    """Return the runs that nobody decided on yet, those at work first, then by when they were begun, newest first."""
    found = []
    for path in sorted(runs_folder().glob(f"*/{_JOB}")):
        if not (path.parent / _DECISION).exists():
            with suppress(MetastasisError):
                found.append(look_at_run(path.parent))
    return tuple(sorted(found, key=lambda run: (run.kind not in ("running", "starting"), -run.job.begun)))


def look_at_run(folder: Path, *, alive: bool | None = None) -> Run:
    """Return what a run is at.

    Parameters
    ----------
    folder
        The run folder.
    alive
        Whether its process lives, which has said nothing so far; ``None`` where that is not known, and it is waited for
        some minutes.

    Raises
    ------
    StorageError
        If the folder is none of a run, or cannot be read.
    """
    try:
        job = RunJob.from_json(read_json(folder / _JOB))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"expected the folder of a retraining, got {folder}; choose another one") from error
    at_work, state = _at_work_on(folder)
    is_fresh = state.at >= job.begun - 1
    if at_work:
        # What the last start said is of no account, before this one says anything.
        return Run(folder, job, "running", state, {})
    if state.ended is not None and is_fresh:
        return Run(folder, job, "ended", state, _read_verdict(folder))
    if state.failed and is_fresh:
        return Run(folder, job, "failed", state, {}, state.failed)
    complaint = _complaint(folder, job.begun)
    if complaint and not is_fresh:
        return Run(folder, job, "failed", state, {}, complaint)
    is_awaited = time.time() - job.begun < _SILENT_S if alive is None else alive
    if is_awaited and not is_fresh:
        return Run(folder, job, "starting", state, {})
    return Run(folder, job, "interrupted", state, {})


def _at_work_on(folder: Path) -> tuple[bool, RunState]:
    """Return whether a process is at work on a run, and what it says that it is at.

    One that begins or ends between the two looks would seem to have been killed: then it is looked again.
    """
    state = read_run_log(folder)
    while True:
        at_work, before, state = is_at_work(folder), state, read_run_log(folder)
        if at_work or state == before:
            return at_work, state


def _tails() -> tuple[str, ...]:
    return ("", *(f"_{number}" for number in range(1, 1000)))


def _read_verdict(folder: Path) -> Mapping[str, Any]:
    try:
        found = read_json(folder / VERDICT, nan_as_null=True)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _complaint(folder: Path, begun: float) -> str:
    """Return the last line that the process of a run complained with, since it was begun."""
    path = folder / LOG
    try:
        if path.stat().st_mtime < begun - 1:
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace")[-20_000:].strip().splitlines()
    except OSError:
        return ""
    # Notes are no failure; a failure is the line that the program says last.
    said = [line.removeprefix("napari-metastasis: ") for line in lines if "expected" in line or "Error" in line]
    return " ".join(said[-1].split())[:_LONGEST] if said else ""
