"""What a command that trains does: read the data, train with bars, keep what came out by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.cli.console import Progress, note, say, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage
from napari_metastasis.errors import MissingDependencyError, ScanCancelledError, SettingsError, StorageError
from napari_metastasis.settings import CohortSettings, PatchSettings, ScanSettings, TissueSettings
from napari_metastasis.workflows.train.declaration import Chosen, TrainingDeclaration

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Cohort
    from napari_metastasis.sampling.batches import AllPatches, BalancedPatches
    from napari_metastasis.training.tasks.base import TrainingTask
    from napari_metastasis.training.train import TrainingRun
    from napari_metastasis.workflows.train.plan import StagedRun, StepProgress

__all__ = ["CommonOptions", "run_training"]


@dataclass(frozen=True, slots=True)
class CommonOptions:
    """Options that every task has beside its settings."""

    output: Path
    cohort: Path | None
    name: str
    description: str
    licence: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that stands on the command line."""

    options: CommonOptions
    chosen: Chosen

    @property
    def patches(self) -> PatchSettings:
        """Return the labelled patches; none for tasks that take none."""
        found: PatchSettings = self.chosen.groups.get("patches", PatchSettings())
        return found

    @property
    def settings(self) -> Any:
        """Return how to train."""
        return self.chosen.groups["settings"]

    @property
    def mixed_in(self) -> int:
        """Return how many patches of a batch are labelled ones: all of them where there are no slides."""
        if self.options.cohort is None:
            return int(self.settings.batch_size)
        return max(1, round(self.settings.batch_size * self.patches.patches_share))

    def described(self) -> str:
        """Return what the data are: what was said, or their names."""
        patches = self.patches
        named = (self.options.cohort, *(patches.patches or ()), patches.soft_labels, patches.validation)
        return self.options.description or f"Trained on {', '.join(path.name for path in named if path is not None)}"


def run_training(
    declared: TrainingDeclaration, options: CommonOptions, groups: Mapping[str, Any], given: Mapping[str, str]
) -> None:
    """Train a task and keep what came out among the user's own models.

    Parameters
    ----------
    declared
        The task.
    options, groups
        What was chosen.
    given
        Options that stand on the command line, by the names of their parameters.
    """
    _need_training()
    from napari_metastasis.models import correct_card
    from napari_metastasis.scanning import resolve_devices
    from napari_metastasis.training.lightning_setup import check_devices
    from napari_metastasis.training.train import TrainingRun

    fetching = partial(show_progress, "Fetching weights", unit="MB", scale=1e-6)
    name = options.name or f"{declared.prefix}-{options.output.resolve().name}"
    wanted = _Wanted(options, Chosen(name, groups, given, fetching))
    _check(declared, wanted)
    # Both refuse what this machine lacks, before anything is written.
    resolve_devices(wanted.settings.device)
    check_devices(wanted.settings)
    task = declared.make(wanted.chosen)
    run = TrainingRun(options.output, wanted.described(), options.licence)
    weights = _train_on_patches(task, run, wanted) if options.cohort is None else _train_on_slides(task, run, wanted)
    # Of a run that was finished before, too: what is not given keeps what was said then.
    said = {"data": options.description, "licence": options.licence}
    correct_card(weights, {key: text for key, text in said.items() if text})
    kept = [_keep_by_name(path) for path in task.results(weights)]
    # Others that a run leaves are found beside the last, too, where their own names are taken.
    if not all(kept[-1:]):
        note(f"scan with it by its file: --model {weights}")
    say(str(weights))


def _need_training() -> None:
    """Load what training needs, or say what to install."""
    try:
        import napari_metastasis.training.train  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"expected {error.name} for training, got none installed; pip install 'napari-metastasis[train]'"
        ) from error


def _check(declared: TrainingDeclaration, wanted: _Wanted) -> None:
    """Refuse what makes no sense together."""
    patches = wanted.patches
    if wanted.options.cohort is None and not patches.patches:
        raise WrongUsage("expected --cohort or --patches, got neither; give slides, patches, or both")
    if patches.soft_labels is not None and not patches.patches:
        raise WrongUsage("expected --patches beside --soft-labels, got none; give the patches that it names")
    if wanted.options.cohort is None and patches.validation is None:
        raise WrongUsage("expected --validation beside --patches, got none; give patches from other slides")
    size = wanted.settings.batch_size
    if wanted.options.cohort is not None and patches.patches and wanted.mixed_in >= size:
        raise WrongUsage(
            f"expected --patches-share to leave room for slides, got {wanted.mixed_in} of {size} patches; "
            "lower it, or raise the batch size"
        )
    try:
        declared.check(wanted.chosen)
    except SettingsError as error:
        raise WrongUsage(str(error)) from error


def _train_on_patches(task: TrainingTask[Any], run: TrainingRun, wanted: _Wanted) -> Path:
    """Train on labelled patches alone; return the weights."""
    from napari_metastasis.training.train import train

    training, validation = _labelled_patches(task, wanted)
    assert training is not None
    assert validation is not None
    augment = wanted.chosen.groups["augment"]
    return train(task, run, training=training, validation=validation, settings=wanted.settings, augment=augment)


def _train_on_slides(task: TrainingTask[Any], run: TrainingRun, wanted: _Wanted) -> Path:
    """Train on a cohort, beside labelled patches if there are any; return the weights."""
    from napari_metastasis.workflows.train.plan import CohortTraining, LabelledPatches
    from napari_metastasis.workflows.train.run import train_on_cohort

    groups, path = wanted.chosen.groups, wanted.options.cohort
    how = CohortTraining(
        train=wanted.settings,
        augment=groups["augment"],
        sampling=groups["sampling"],
        mining=groups["mining"],
        scan=ScanSettings(device=wanted.settings.device),
        tissue=TissueSettings(),
    )
    splits = groups["splits"]
    if wanted.patches.validation is not None and "splits_validation_share" not in wanted.chosen.given:
        # Measured on patches, a run needs all its slides to train on.
        splits = replace(splits, validation_share=0.0)
    patches = LabelledPatches(*_labelled_patches(task, wanted))
    assert path is not None
    cohort = _read_whole_cohort(path, splits, how.sampling.tumour_value, run.output)
    return _run_to_end(lambda steps: train_on_cohort(cohort, task, how, run, steps, patches), run.output).weights


def _labelled_patches(task: TrainingTask[Any], wanted: _Wanted) -> tuple[BalancedPatches | None, AllPatches | None]:
    """Return the labelled patches to train on, and those to measure on."""
    from napari_metastasis.cohorts.patches import join_patches, open_patches
    from napari_metastasis.sampling.batches import AllPatches, BalancedPatches
    from napari_metastasis.sampling.soft_labels import read_soft_labels

    patches, settings, side_px = wanted.patches, wanted.settings, task.patches.patch_px
    validation = None
    if patches.validation is not None:
        validation = AllPatches(open_patches(patches.validation), side_px, settings.batch_size)
    if not patches.patches:
        return None, validation
    source = join_patches([open_patches(path) for path in patches.patches])
    targets = None if patches.soft_labels is None else read_soft_labels(patches.soft_labels, source)
    return BalancedPatches(source, side_px, wanted.mixed_in, settings.seed, targets), validation


def _read_whole_cohort(path: Path, splits: CohortSettings, tumour_value: int, output: Path) -> Cohort:
    """Return a cohort in which nothing is wrong; name everything that is.

    A run that has begun goes on without slides whose files went bad since: they are named, and passed over.
    """
    from napari_metastasis.cohorts.checks import check_cohort
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.errors import CohortError
    from napari_metastasis.settings import SlideSettings
    from napari_metastasis.training.lightning_setup import LAST

    cohort = read_cohort(
        path, validation_share=splits.validation_share, seed=splits.split_seed, mpp=splits.cohort_mpp or None
    )
    for flawed in cohort.left_out:
        note(f"{flawed.slide.name} is left out: {flawed.reason}")
    with show_progress("Checking the cohort", unit="slides") as progress:
        problems = check_cohort(cohort, threads=SlideSettings().threads, tumour_value=tumour_value, progress=progress)
    for problem in problems:
        note(str(problem))
    begun = any(output.glob(f"*/{LAST}"))
    if not all(begun and problem.of_files for problem in problems):
        raise CohortError(
            f"expected a cohort without faults, got the {len(problems)} above in {path}; put them right first"
        )
    return cohort


class _Bars:
    """Bars of the steps that are no training, and whether Ctrl-C came during one; training minds Ctrl-C itself."""

    def __init__(self) -> None:
        self._asked: Callable[[], bool] | None = None

    def should_stop(self) -> bool:
        """Return whether Ctrl-C came during a step that has a bar here."""
        return self._asked is not None and self._asked()

    @contextmanager
    def show(self, title: str) -> Iterator[Progress]:
        """Show a step, and mind Ctrl-C while it lasts."""
        with stop_on_interrupt() as asked, show_slides(title) as progress:
            self._asked = asked
            try:
                yield progress
            finally:
                self._asked = None


def _run_to_end(train: Callable[[StepProgress], StagedRun], output: Path) -> StagedRun:
    """Train with bars, until the end or Ctrl-C, and name the slides that were passed over.

    Raises
    ------
    KeyboardInterrupt
        If Ctrl-C stopped it; the same command goes on.
    """
    from napari_metastasis.sampling.failures import JOURNAL, read_failures
    from napari_metastasis.workflows.train.plan import StepProgress

    bars = _Bars()
    try:
        done = train(StepProgress(bars.show, bars.should_stop))
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


def _keep_by_name(weights: Path) -> bool:
    """Keep weights among the user's own models, unless their name is taken: the run itself is done.

    Returns
    -------
    Whether they go by their name.
    """
    from napari_metastasis.errors import ModelError
    from napari_metastasis.models import add_model, add_refiner, is_refiner

    try:
        entry = add_refiner(weights) if is_refiner(weights) else add_model(weights)
    except ModelError as error:
        note(str(error))
        return False
    note(f"scan with it by its name: --model {entry.name}")
    return True
