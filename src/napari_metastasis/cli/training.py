"""What the commands that train share: what has to be installed, the cohort, the bars, and keeping what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_metastasis.cli.console import Progress, note, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.errors import MissingDependencyError, ScanCancelledError, StorageError
from napari_metastasis.settings import CohortSettings

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Cohort
    from napari_metastasis.models import ZooEntry
    from napari_metastasis.workflows.train.run import StagedRun

__all__ = ["Bars", "keep_by_name", "need_training", "read_whole_cohort", "run_to_end"]


def need_training() -> None:
    """Load what training needs, or say what to install."""
    try:
        import napari_metastasis.training.train  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"expected {error.name} for training, got none installed; pip install 'napari-metastasis[train]'"
        ) from error


def read_whole_cohort(path: Path, splits: CohortSettings, tumour_value: int, output: Path) -> Cohort:
    """Return a cohort in which nothing is wrong; name everything that is.

    A run that has begun goes on without slides whose files went bad since: they are named, and passed over.
    """
    from napari_metastasis.cohorts.checks import check_cohort
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.cohorts.survey import survey_slides
    from napari_metastasis.errors import CohortError
    from napari_metastasis.settings import SlideSettings
    from napari_metastasis.training.lightning_setup import LAST

    cohort = read_cohort(
        path, validation_share=splits.validation_share, seed=splits.split_seed, mpp=splits.cohort_mpp or None
    )
    for flawed in cohort.left_out:
        note(f"{flawed.slide.name} is left out: {flawed.reason}")
    with show_progress("Checking the cohort", unit="slides") as progress:
        surveys = survey_slides(cohort.slides, threads=SlideSettings().threads, progress=progress)
    problems = check_cohort(cohort, surveys, tumour_value=tumour_value)
    for problem in problems:
        note(str(problem))
    begun = any(output.glob(f"*/{LAST}"))
    if not all(begun and problem.of_files for problem in problems):
        raise CohortError(
            f"expected a cohort without faults, got the {len(problems)} above in {path}; put them right first"
        )
    return cohort


class Bars:
    """Bars of the steps that are no training, and whether Ctrl-C came during one; training minds Ctrl-C itself."""

    def __init__(self) -> None:
        self._asked: Callable[[], bool] | None = None

    def should_stop(self) -> bool:
        """Return whether Ctrl-C came during a step that has a bar here."""
        return self._asked is not None and self._asked()

    @contextmanager
    def __call__(self, title: str) -> Iterator[Progress]:
        """Show a step, and mind Ctrl-C while it lasts."""
        with stop_on_interrupt() as asked, show_slides(title) as progress:
            self._asked = asked
            try:
                yield progress
            finally:
                self._asked = None


def run_to_end(train: Callable[[Bars], StagedRun], output: Path) -> StagedRun:
    """Train with bars, until the end or Ctrl-C, and name the slides that were passed over.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C stopped it; the same command goes on.
    """
    from napari_metastasis.sampling.failures import JOURNAL, read_failures

    bars = Bars()
    try:
        done = train(bars)
        for number, count in enumerate(done.mined, start=1):
            note(f"round {number}: {count} hard negatives; see {output / f'mining-{number}'}")
    except ScanCancelledError:
        # Nobody but Ctrl-C stops it here.
        raise KeyboardInterrupt from None
    finally:
        # However it ended: a run that was stopped, or failed, has passed over slides all the same. A disk that cannot
        # be read any more must not hide what went wrong first.
        with suppress(StorageError):
            for failure in read_failures(output / JOURNAL):
                note(f"{failure.slide} was passed over: {failure.reason}")
    return done


def keep_by_name(weights: Path, add: Callable[[Path], ZooEntry]) -> bool:
    """Keep a model or a refiner among the user's own, unless its name is taken: the run itself is done.

    Returns
    -------
    Whether it goes by its name.
    """
    from napari_metastasis.errors import ModelError

    try:
        entry = add(weights)
    except ModelError as error:
        note(str(error))
        return False
    note(f"scan with it by its name: --model {entry.name}")
    return True
