"""The work around a retraining that is done beside the window: functions that know neither Qt nor napari."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_metastasis._napari.priority import niceness_left
from napari_metastasis.errors import MetastasisError, StorageError
from napari_metastasis.tasks import TASKS, Task

if TYPE_CHECKING:
    from napari_metastasis.annotations import Correction
    from napari_metastasis.models import ModelVersion, ZooEntry
    from napari_metastasis.workflows.retrain import Run, RunJob

__all__ = [
    "Source",
    "bases_work",
    "begin_work",
    "counted",
    "discard_work",
    "export_work",
    "follow_work",
    "go_on_work",
    "import_work",
    "keep_work",
    "remove_work",
    "runs_work",
    "sources_work",
    "versions_work",
]

ShouldStop = Callable[[], bool]

#: How often a run is looked at.
_LOOK_S = 0.4
#: What a person calls what is said of a place, where it is not called by its label.
_CALLED = {"normal": "no tumour", "not-mitosis": "no mitosis"}


@dataclass(frozen=True, slots=True)
class Source:
    """A slide with corrections that a model can learn from.

    Attributes
    ----------
    name
        Of the slide.
    folder
        Its result folder; ``None`` where it was not scanned, so that nothing can be learnt from it yet.
    said
        How often a person said what: a count by each label that is taught.
    """

    name: str
    folder: Path | None
    said: Mapping[str, int]

    @property
    def teaches(self) -> bool:
        """Return whether anything can be learnt from it."""
        return any(self.said.values())

    def teaches_for(self, task: Task) -> bool:
        """Return whether models of a task can learn from it."""
        return any(self.said.get(label) for label in task.taught_by)

    @property
    def text(self) -> str:
        """Return one line for a list."""
        said = [f"{count} {_CALLED.get(label, label)}" for label, count in self.said.items() if count]
        return f"{self.name}: {', '.join(said) or 'nothing yet'}"


def counted(name: str, folder: Path | None, corrections: Iterable[Correction]) -> Source:
    """Return what can be learnt from the corrections of a slide."""
    labels = Counter[str](one.label for one in corrections)
    return Source(name, folder, {label: labels[label] for task in TASKS for label in task.taught_by})


def sources_work(place: Path, _: ShouldStop) -> tuple[Source, ...]:
    """Return the results with corrections in a folder.

    Raises
    ------
    StorageError
        If there is none.
    """
    from napari_metastasis.annotations import CorrectionStore
    from napari_metastasis.workflows.report import find_results, read_result
    from napari_metastasis.workflows.scan import corrections_folder

    found = []
    for folder in find_results(place):
        with suppress(MetastasisError):
            result = read_result(folder)
            held = CorrectionStore(corrections_folder(folder), bounds=result.bounds).read()
            source = counted(result.slide_name, folder, held)
            found += [source] if source.teaches else []
    if not found:
        raise StorageError(
            f"expected results with corrections, got none in {place}; choose a result folder, or one that holds such"
        )
    return tuple(found)


def bases_work(_: ShouldStop) -> tuple[ZooEntry, ...]:
    """Return the models that can be retrained."""
    from napari_metastasis.models import list_models

    return tuple(one for task in TASKS if task.taught_by for one in list_models(task.name))


def runs_work(_: ShouldStop) -> tuple[Run, ...]:
    """Return the runs that nobody decided on yet, those at work first."""
    from napari_metastasis.workflows.retrain import open_runs

    return open_runs()


def begin_work(
    results: tuple[Path, ...],
    model: str,
    name: str,
    budget_s: float,
    patches: Path | None,
    wishes: Collection[str],
    should_stop: ShouldStop,
) -> Generator[Run, None, Run]:
    """Begin a retraining in a process of its own, and follow it; see :func:`follow_work`."""
    from napari_metastasis.workflows.retrain import begin_run

    folder, job = begin_run(results, model=model, name=name, budget_s=budget_s, patches=patches)
    return (yield from follow_work(folder, wishes, should_stop, _started(job, folder)))


def go_on_work(run: Run, wishes: Collection[str], should_stop: ShouldStop) -> Generator[Run, None, Run]:
    """Go on with a run whose process was killed, and follow it."""
    from napari_metastasis.workflows.retrain import restart_run

    job = restart_run(run)
    return (yield from follow_work(run.folder, wishes, should_stop, _started(job, run.folder)))


def _started(job: RunJob, folder: Path) -> subprocess.Popen[bytes]:
    """Start the process of a run, which the end of this one does not end."""
    from napari_metastasis.workflows.retrain import LOG

    command = list(job.command(folder))
    if (nice := shutil.which("nice")) and (by := niceness_left()):
        command = [nice, "-n", str(by), *command]
    apart: dict[str, int | bool] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        with (folder / LOG).open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1"}, **apart,
            )  # type: ignore[call-overload]  # fmt: skip
    except OSError as error:
        raise StorageError(
            f"expected to start the retraining in {folder}, but the system refuses ({error.strerror}); try again"
        ) from error


def follow_work(
    folder: Path, wishes: Collection[str], should_stop: ShouldStop, process: subprocess.Popen[bytes] | None = None
) -> Generator[Run, None, Run]:
    """Yield what a run is at, until it has ended or nobody follows any more, and return it as it is then.

    Parameters
    ----------
    folder
        Of the run.
    wishes
        What it is asked for, as :func:`~napari_metastasis.workflows.retrain.wish` takes it; may grow meanwhile.
    should_stop
        Whether nobody follows any more; the run goes on.
    process
        That makes it, where it was started here.
    """
    from napari_metastasis.workflows.retrain import look_at_run, wish

    try:
        while True:
            # Again and again: a run that begins takes those of an earlier start away.
            for name in tuple(wishes):
                wish(folder, name)
            # Beside a scan it may take minutes to load; one that has ended says nothing more.
            run = look_at_run(folder, alive=None if process is None else process.poll() is None)
            yield run
            if should_stop() or run.kind not in ("starting", "running"):
                return run
            time.sleep(_LOOK_S)
    finally:
        if process is not None and process.poll() is None:
            # Python would complain that it still runs, which it is meant to.
            process.returncode = 0


def keep_work(run: Run, _: ShouldStop) -> ZooEntry:
    """Keep what came out of a run by its name."""
    from napari_metastasis.models import add_model
    from napari_metastasis.workflows.retrain import decide_run

    assert run.state.ended is not None
    entry = add_model(run.state.ended)
    decide_run(run.folder, kept=True)
    return entry


def discard_work(run: Run, _: ShouldStop) -> None:
    """Offer what came out of a run no more; its folder stays."""
    from napari_metastasis.workflows.retrain import decide_run

    decide_run(run.folder, kept=False)


def versions_work(_: ShouldStop) -> tuple[ModelVersion, ...]:
    """Return all models with where they come from."""
    from napari_metastasis.models import list_versions

    return list_versions()


def export_work(name: str, into: Path, _: ShouldStop) -> Path:
    """Copy a model into a new folder of its name; return that."""
    from napari_metastasis.models import export_model

    export_model(name, into / name)
    return into / name


def import_work(folder: Path, _: ShouldStop) -> ZooEntry:
    """Keep the model of a folder that another workstation exported."""
    from napari_metastasis.models import add_model

    return add_model(folder)


def remove_work(name: str, _: ShouldStop) -> ZooEntry:
    """Delete one of the user's own models."""
    from napari_metastasis.models import remove_model

    return remove_model(name)
