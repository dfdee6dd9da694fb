"""Train a task on the slides of a cohort: its stages one after the other, with rounds of finding errors in between."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, read_cohort, write_cohort
from napari_metastasis.cohorts.reference import tumour_value_of
from napari_metastasis.errors import CohortError, ScanCancelledError, TrainingError
from napari_metastasis.sampling.batches import BalancedPatches, BatchSource, MixedBatches
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.failures import JOURNAL, read_failures
from napari_metastasis.sampling.resume import slide_parts
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.scanning import resolve_devices
from napari_metastasis.settings import SamplingSettings, TrainSettings
from napari_metastasis.slides import reading_threads
from napari_metastasis.storage import storage_errors
from napari_metastasis.training.augment import Augmenter
from napari_metastasis.training.encoded import Encoding
from napari_metastasis.training.tasks.base import Stage, TrainingTask
from napari_metastasis.training.train import TrainingRun, train
from napari_metastasis.workflows.scan.batch import in_parts
from napari_metastasis.workflows.train.mine import listing
from napari_metastasis.workflows.train.plan import CohortTraining, LabelledPatches, StagedRun, StepProgress
from napari_metastasis.workflows.train.rounds import BoostingRounds, MiningRounds, Rounds

__all__ = ["train_on_cohort"]

_LOG = logging.getLogger(__name__)

#: Validation patches must not be those of any training batch, whatever the seed.
_VALIDATION_SEED = 1


def train_on_cohort(
    cohort: Cohort,
    task: TrainingTask[Any],
    how: CohortTraining,
    run: TrainingRun,
    steps: StepProgress,
    patches: LabelledPatches,
) -> StagedRun:
    """Train a task stage by stage; before a stage that trains on errors of the model so far, they are found.

    Everything lies in the run folder: ``cohort.csv`` (the slides with the splits that were used), a folder for each
    stage, ``mining-1`` … (heatmaps, ``hard_negatives.csv``, contact sheets) or ``boosting-1`` … (``tiles.csv``),
    ``failures.jsonl``, and the final model.
    Each step that is done is kept: a run that was killed goes on where it stopped.

    Parameters
    ----------
    cohort
        Slides with annotations and splits.
    task
        What to train.
    how
        Every setting.
    run
        Run folder, and the texts of the model card; a finished run keeps the texts of its card.
    steps
        Shows the steps, and stops them.
    patches
        Labelled patches beside the slides.

    Raises
    ------
    CohortError
        If there is nothing to train or to measure on.
    TrainingError
        If the folder holds another run, or training cannot go on.
    ScanCancelledError
        If ``steps`` said so; the same call goes on.
    """
    stages = task.stages(how.train, how.mining)
    rounds = sum(stage.round > 0 for stage in stages)
    on = _begin(cohort, task, how, run.output, steps)
    errors = on.rounds()
    if rounds:
        labelled = 0 if patches.training is None else patches.training.batch_size
        errors.check(how.train.batch_size - labelled)
    task.check_folder(run.output, rounds)
    validation = on.validation() if patches.validation is None else patches.validation
    # Last, since the checks above may demand a changed cohort.
    _claim(run.output, cohort)
    weights: Path | None = None
    for stage in stages:
        if stage.round and not errors.find(stage.round, weights):
            goes_on = f"{task.name} is trained without {errors.noun}"
            what = goes_on if weights is None else "the model of the stage before is the run's"
            _LOG.warning("nothing was %s in round %d: %s", task.found_word, stage.round, what)
            if weights is not None:
                break
        weights = train(
            task if weights is None else task.continued(weights),
            replace(run, output=run.output / stage.folder),
            training=on.training(stage.settings, errors, patches.training),
            validation=validation,
            settings=stage.settings,
            augment=how.augment,
            encode=partial(on.encoded, stage) if task.kept_crops(stage.settings) else None,
        )
    assert weights is not None, "a task has at least one stage"
    final = task.finish(weights, run.output, errors.found)
    return StagedRun(final, tuple(errors.found), read_failures(on.journal), errors.noun, errors.folder)


def _begin(
    cohort: Cohort, task: TrainingTask[Any], how: CohortTraining, output: Path, steps: StepProgress
) -> _CohortRun:
    """Make the run folder, and settle which value of the masks is tumour, the same for all splits."""
    slides = cohort.of("train")
    if not slides:
        raise CohortError(f"expected slides to train on, got none in {cohort.origin}; mark some as train")
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    value = how.sampling.tumour_value or tumour_value_of(cohort.slides)
    how = replace(how, sampling=replace(how.sampling, tumour_value=value))
    return _CohortRun(cohort, slides, task, how, output, steps)


def _claim(output: Path, cohort: Cohort) -> None:
    """Write the run's slides and splits, or check that the run in the folder has the same."""
    path = output / "cohort.csv"
    if not os.path.exists(path):
        write_cohort(path, cohort.slides)
        return
    # By what they are, not by where they lie: run folders are moved.
    if listing(read_cohort(path, validation_share=0, seed=0).slides) != listing(cohort.slides):
        raise TrainingError(
            f"expected an empty folder or a run on the same slides and splits, got another run in {output}; "
            "choose another --output"
        )


@dataclass(frozen=True, slots=True)
class _CohortRun:
    """A run with all that its steps share."""

    cohort: Cohort
    slides: tuple[CohortSlide, ...]
    task: TrainingTask[Any]
    how: CohortTraining
    output: Path
    steps: StepProgress

    @property
    def journal(self) -> Path:
        """Return the file that lists slides that failed."""
        return self.output / JOURNAL

    def validation(self) -> BatchSource:
        """Return patches of the validation slides, the same after every epoch and in every run with this cohort."""
        slides = self.cohort.of("validation")
        if not slides:
            raise CohortError(
                f"expected slides to validate on, got none in {self.cohort.origin}; mark some as validation, raise "
                "--validation-share, or give labelled patches as --validation"
            )
        sampling = self.how.sampling
        count = min(sampling.validation_patches, sampling.patches_per_epoch)
        sampling = replace(sampling, tumour_share=0.5, patches_per_epoch=count)
        batches = SlideBatches(slides, self._plan(sampling, self.how.train.batch_size, _VALIDATION_SEED))
        self._prepare("Looking at validation slides", batches)
        return batches

    def rounds(self) -> Rounds:
        """Return what is found between stages: tiles to boost, or false positives."""
        run = (self.slides, self.task, self.how, self.output, self.steps, self.journal)
        return BoostingRounds(*run, prepare=self._prepare) if self.task.boosting is not None else MiningRounds(*run)

    def training(self, settings: TrainSettings, errors: Rounds, patches: BalancedPatches | None) -> BatchSource:
        """Return the stage's batches: of slides, with the errors that were found, and of patches."""
        size = settings.batch_size - (0 if patches is None else patches.batch_size)
        batches = errors.batches(self._plan(self.how.sampling, size, settings.seed))
        self._prepare("Looking at training slides", batches)
        if patches is None:
            return batches
        # Not nested: the fingerprint is made of all parts.
        return MixedBatches((*(batches.parts if isinstance(batches, MixedBatches) else (batches,)), patches))

    def encoded(self, stage: Stage, source: BatchSource, *, vary: bool) -> BatchSource:
        """Return a source's crops, encoded: as many as are kept, varied, or all of an epoch as they are."""
        settings = stage.settings
        size = settings.batch_size
        with self.steps.crops("Encoding crops" if vary else "Encoding validation crops") as progress:
            encoding = Encoding(
                folder=self.output / stage.folder / ("encoded" if vary else "encoded-validation"),
                crops=self.task.kept_crops(settings) if vary else source.batches_per_epoch * size,
                augment=Augmenter(self.how.augment, settings.seed, turn=False) if vary else None,
                identity={**self.task.identity(), "augment": asdict(self.how.augment)},
                seed=settings.seed if vary else None,
                device=resolve_devices(settings.device)[0],
                progress=progress,
                should_stop=self.steps.should_stop,
            )
            return self.task.encoded(source, size, encoding)

    def _plan(self, sampling: SamplingSettings, batch_size: int, seed: int) -> BatchPlan:
        return BatchPlan(
            self.task.patches,
            sampling,
            batch_size,
            seed,
            journal=self.journal,
            crop=self.task.crop,
            tells_stains=self.task.network_input.needs_stains,
        )

    def _prepare(self, title: str, batches: BatchSource) -> None:
        threads = reading_threads(self.how.scan.threads, beside_network=False)
        for part in slide_parts(batches):
            with self.steps.bar(title) as progress:
                if not part.prepare(threads=threads, progress=in_parts(progress), should_stop=self.steps.should_stop):
                    raise ScanCancelledError(
                        "expected to look at every slide first, but was stopped; the same command goes on"
                    )
