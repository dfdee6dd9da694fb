"""Runs a training command: reads the data, trains with progress bars, keeps the model under its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.cli.console import Progress, note, say, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage
from napari_metastasis.errors import MissingDependencyError, ScanCancelledError, SettingsError, StorageError
from napari_metastasis.settings import ClusterSettings, CohortSettings, ScanSettings, SlideSettings, TissueSettings
from napari_metastasis.workflows.train.declaration import CLUSTER, Chosen, TrainingDeclaration

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Cohort
    from napari_metastasis.cohorts.patches import PatchSource
    from napari_metastasis.sampling.batches import BatchSource
    from napari_metastasis.training.tasks.base import TrainingTask
    from napari_metastasis.training.train import TrainingRun
    from napari_metastasis.workflows.train.plan import LabelledPatches, StagedRun, StepProgress

__all__ = ["keep_by_name", "need_training", "run_training"]


def run_training(declared: TrainingDeclaration, chosen: Chosen) -> None:
    """Train a task and keep the model among the user's own."""
    need_training()
    from napari_metastasis.models import correct_card
    from napari_metastasis.scanning import resolve_devices
    from napari_metastasis.training.lightning_setup import check_devices
    from napari_metastasis.training.train import TrainingRun

    try:
        if declared.batches is None:
            chosen.check()
        declared.check(chosen)
    except SettingsError as error:
        raise WrongUsage(str(error)) from error
    # Both refuse what this machine lacks, before anything is written.
    resolve_devices(chosen.settings.device)
    check_devices(chosen.settings)
    _warn_of_models_folder(chosen.output)
    task = declared.make(chosen)
    run = TrainingRun(chosen.output, chosen.data(), chosen.licence)
    if declared.batches is not None:
        weights = _train_on(task, run, chosen, declared.batches(chosen, task))
    elif chosen.cohort is None:
        weights = _train_on_patches(task, run, chosen)
    else:
        weights = _train_on_slides(task, run, chosen)
    # Also of a run that was finished before; what is not given stays as it was.
    said = {"data": chosen.description, "licence": chosen.licence}
    correct_card(weights, {key: text for key, text in said.items() if text})
    kept = [keep_by_name(path) for path in task.results(weights)]
    # The last model finds the others beside it, even where their names are taken.
    if not all(kept[-1:]):
        note(f"scan with it by its file: --model {weights}")
    say(str(weights))


def _warn_of_models_folder(output: Path) -> None:
    """Say beforehand that a model cannot be kept by its name. No reason to refuse: it is scanned with by its file."""
    from napari_metastasis.models import check_own_models_folder

    try:
        check_own_models_folder()
    except StorageError as error:
        note(f"the model will lie in {output} alone: {error}")


def need_training() -> None:
    """Refuse to train without the packages that training needs."""
    try:
        import napari_metastasis.training.train  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"expected {error.name} for training, got none installed; pip install 'napari-metastasis[train]'"
        ) from error


def _train_on_patches(task: TrainingTask[Any], run: TrainingRun, chosen: Chosen) -> Path:
    """Train on labelled patches alone; return the weights."""
    patches = _labelled_patches(task, chosen)
    assert patches.training is not None
    assert patches.validation is not None
    return _train_on(task, run, chosen, (patches.training, patches.validation))


def _train_on(
    task: TrainingTask[Any], run: TrainingRun, chosen: Chosen, batches: tuple[BatchSource, BatchSource]
) -> Path:
    """Train on batches, and measure on others; return the weights."""
    from napari_metastasis.training.train import train

    augment, (training, validation) = chosen.groups["augment"], batches
    return train(task, run, training=training, validation=validation, settings=chosen.settings, augment=augment)


def _train_on_slides(task: TrainingTask[Any], run: TrainingRun, chosen: Chosen) -> Path:
    """Train on a cohort, beside labelled patches if there are any; return the weights."""
    from napari_metastasis.workflows.train.plan import CohortTraining
    from napari_metastasis.workflows.train.run import train_on_cohort

    groups = chosen.groups
    how = CohortTraining(
        train=chosen.settings,
        augment=groups["augment"],
        sampling=groups["sampling"],
        mining=groups["mining"],
        scan=ScanSettings(device=chosen.settings.device),
        tissue=TissueSettings(),
        cluster=groups.get(CLUSTER.name, ClusterSettings()),
    )
    patches = _labelled_patches(task, chosen)
    cohort = _read_whole_cohort(chosen)
    return _run_to_end(lambda steps: train_on_cohort(cohort, task, how, run, steps, patches), run.output).weights


def _labelled_patches(task: TrainingTask[Any], chosen: Chosen) -> LabelledPatches:
    """Return the labelled patches to train and to measure on."""
    from napari_metastasis.cohorts.patches import colours_note, join_patches, open_patches, patch_set_stains
    from napari_metastasis.sampling.batches import AllPatches, BalancedPatches
    from napari_metastasis.sampling.soft_labels import read_soft_labels
    from napari_metastasis.workflows.train.plan import LabelledPatches

    patches, settings, side_px = chosen.patches, chosen.settings, task.patches.patch_px
    training = validation = None

    def stains_of(source: PatchSource) -> tuple[float, ...]:
        return patch_set_stains(source).numbers if task.network_input.needs_stains else ()

    if patches.validation is not None:
        source = open_patches(patches.validation)
        validation = AllPatches(source, side_px, settings.batch_size, stains_of(source))
    if patches.patches:
        source = join_patches([open_patches(path) for path in patches.patches])
        if doubt := colours_note(source):
            note(doubt)
        targets = None if patches.soft_labels is None else read_soft_labels(patches.soft_labels, source)
        training = BalancedPatches(source, side_px, chosen.labelled_in_batch, settings.seed, targets, stains_of(source))
    return LabelledPatches(training, validation)


def _read_whole_cohort(chosen: Chosen) -> Cohort:
    """Return a cohort in which nothing is wrong; name everything that is.

    A run that was begun goes on without slides whose files were damaged since: they are named and passed over.
    """
    from napari_metastasis.cohorts.checks import check_cohort
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.cohorts.survey import survey_slides
    from napari_metastasis.errors import CohortError
    from napari_metastasis.training.lightning_setup import LAST

    assert chosen.cohort is not None
    splits: CohortSettings = chosen.groups["splits"]
    if chosen.patches.validation is not None and "splits_validation_share" not in chosen.given:
        # Measured on patches, a run needs all its slides to train on.
        splits = replace(splits, validation_share=0.0)
    cohort = read_cohort(
        chosen.cohort, validation_share=splits.validation_share, seed=splits.split_seed, mpp=splits.cohort_mpp or None
    )
    for flawed in cohort.left_out:
        note(f"{flawed.slide.name} is left out: {flawed.reason}")
    with show_progress("Checking the cohort", unit="slides") as progress:
        surveys = survey_slides(cohort.slides, threads=SlideSettings().threads, progress=progress)
    for survey in surveys.values():
        if survey.doubts:
            note(survey.doubts)
    problems = check_cohort(cohort, surveys, tumour_value=chosen.groups["sampling"].tumour_value)
    for problem in problems:
        note(str(problem))
    begun = any(chosen.output.glob(f"*/{LAST}"))
    if not all(begun and problem.of_files for problem in problems):
        raise CohortError(
            f"expected a cohort without faults, got the {len(problems)} above in {chosen.cohort}; put them right first"
        )
    return cohort


class _Bars:
    """Progress bars of the steps around training, and whether Ctrl-C came during one. Training handles it itself."""

    def __init__(self) -> None:
        self._asked: Callable[[], bool] | None = None

    def should_stop(self) -> bool:
        """Return whether Ctrl-C came during the current step."""
        return self._asked is not None and self._asked()

    @contextmanager
    def show(self, title: str, unit: str = "") -> Iterator[Progress]:
        """Show a step, in parts of slides or in other units, and note Ctrl-C while it lasts."""
        bar = show_progress(title, unit=unit) if unit else show_slides(title)
        with stop_on_interrupt() as asked, bar as progress:
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
        done = train(StepProgress(bars.show, bars.should_stop, partial(bars.show, unit="crops")))
        for number, count in enumerate(done.mined, start=1):
            note(f"round {number}: {count} {done.noun}; see {output / f'{done.folder}-{number}'}")
    except ScanCancelledError:
        # Only Ctrl-C stops it here.
        raise KeyboardInterrupt from None
    finally:
        # Also of a run that was stopped or failed. That the journal cannot be read must not hide why.
        with suppress(StorageError):
            for failure in read_failures(output / JOURNAL):
                note(f"{failure.slide} was passed over: {failure.reason}")
    return done


def keep_by_name(weights: Path) -> bool:
    """Keep weights among the user's own models, unless their name is taken or the folder cannot be written.

    Returns
    -------
    Whether they were kept.
    """
    from napari_metastasis.errors import ModelError
    from napari_metastasis.models import add_model

    try:
        entry = add_model(weights)
    except ModelError as error:
        note(str(error))
        return False
    except StorageError as error:
        note(f"the weights lie at {weights}; keep them with 'napari-metastasis models add {weights}' later: {error}")
        return False
    note(f"scan with it by its name: --model {entry.name}")
    return True
