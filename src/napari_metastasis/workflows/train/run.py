"""What the steps of a training run on slides share: its slides, its batches, its failures, and mining."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, read_cohort, write_cohort
from napari_metastasis.cohorts.reference import tumour_value_of
from napari_metastasis.errors import CohortError, ScanCancelledError, TrainingError
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.batches import BalancedPatches, BatchSource, MixedBatches
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.crops import Crop
from napari_metastasis.sampling.failures import JOURNAL, SlideFailure, add_failure, read_failures
from napari_metastasis.sampling.hard_negative_batches import check_shares, with_hard_negatives
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.sampling.slide_batches import SlideBatchSource
from napari_metastasis.settings import (
    AugmentSettings,
    MiningSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
    TrainSettings,
)
from napari_metastasis.slides import reading_threads
from napari_metastasis.storage import storage_errors
from napari_metastasis.workflows.scan.batch import ProgressBar, in_parts
from napari_metastasis.workflows.train.mine import listing, mine_cohort

__all__ = ["CohortRun", "CohortTraining", "StagedRun", "begin_run", "claim_folder"]

_LOG = logging.getLogger(__name__)

#: Validation patches must not be those of any training batch, whatever the seed.
_VALIDATION_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortTraining:
    """How a model is trained on the slides of a cohort: every setting of a run, in its groups."""

    train: TrainSettings
    augment: AugmentSettings
    sampling: SamplingSettings
    mining: MiningSettings
    scan: ScanSettings
    tissue: TissueSettings


@dataclass(frozen=True, slots=True)
class StagedRun:
    """What a run gave.

    Attributes
    ----------
    weights
        The final model.
    mined
        Hard negatives found in each round.
    failures
        Slides that patches could not be taken from, or that could not be scanned; each is named once.
    """

    weights: Path
    mined: tuple[int, ...]
    failures: tuple[SlideFailure, ...]


def begin_run(
    cohort: Cohort,
    spec: ModelSpec,
    how: CohortTraining,
    *,
    output: Path,
    patches_in_batch: int,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
    cut: Crop | None = None,
) -> CohortRun:
    """Make the run folder and check what can be checked before hours are spent; nothing is claimed yet.

    Parameters
    ----------
    cohort, spec, how, output, bar, should_stop, cut
        See :class:`CohortRun`.
    patches_in_batch
        Of a batch, those that do not come from slides.

    Raises
    ------
    CohortError
        If there is nothing to train on.
    SettingsError
        If mined patches leave no room for others.
    StorageError
        If the folder cannot be made.
    """
    training = cohort.of("train")
    if not training:
        raise CohortError(f"expected slides to train on, got none in {cohort.origin}; mark some as train")
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    if how.mining.mining_rounds:
        # Before hours of general training, not after them.
        check_shares(how.sampling, how.mining, how.train.batch_size - patches_in_batch)
    if not how.sampling.tumour_value:
        # Said once for all slides: the splits of a cohort must not differ in what they take for tumour.
        how = replace(how, sampling=replace(how.sampling, tumour_value=tumour_value_of(cohort.slides)))
    return CohortRun(cohort, training, spec, how, output, bar, should_stop, cut)


def claim_folder(output: Path, cohort: Cohort) -> None:
    """Write down the run's slides and splits, or check that the run found there has the same."""
    path = output / "cohort.csv"
    if not path.exists():
        write_cohort(path, cohort.slides)
        return
    # By what they are, not by where they lie: run folders are moved.
    if listing(read_cohort(path, validation_share=0, seed=0).slides) != listing(cohort.slides):
        raise TrainingError(
            f"expected an empty folder or a run on the same slides and splits, got another run in {output}; "
            "choose another --output"
        )


@dataclass(frozen=True, slots=True)
class CohortRun:
    """A run with all that its steps share.

    Attributes
    ----------
    cohort, slides
        The cohort, and the slides of it that are trained on.
    spec
        The patch classifier: resolution and size of patches.
    how
        Every setting.
    output
        Run folder.
    bar, should_stop
        As :func:`~napari_metastasis.workflows.train.detector.train_on_cohort` takes them.
    cut
        What is cut out around each place; the patch alone by default.
    """

    cohort: Cohort
    slides: tuple[CohortSlide, ...]
    spec: ModelSpec
    how: CohortTraining
    output: Path
    bar: ProgressBar
    should_stop: Callable[[], bool]
    cut: Crop | None = None

    @property
    def journal(self) -> Path:
        """Return the file that slides which failed are written down in."""
        return self.output / JOURNAL

    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every failure of this run's folder, once for each slide."""
        return read_failures(self.journal)

    def validation(self) -> BatchSource:
        """Return patches of the validation slides, the same after every epoch and in every run with this cohort."""
        slides = self.cohort.of("validation")
        if not slides:
            raise CohortError(
                f"expected slides to validate on, got none in {self.cohort.origin}; mark some as validation, raise "
                "--validation-share, or give labelled patches as --validation"
            )
        sampling = replace(
            self.how.sampling,
            tumour_share=0.5,
            patches_per_epoch=min(self.how.sampling.validation_patches, self.how.sampling.patches_per_epoch),
        )
        stream = SlideBatches(
            slides, self.spec, sampling, self.how.train.batch_size, _VALIDATION_SEED, journal=self.journal, cut=self.cut
        )
        self._prepare("Looking at validation slides", stream)
        return stream

    def _prepare(self, title: str, stream: SlideBatchSource) -> None:
        threads = reading_threads(self.how.scan.threads, beside_network=False)
        with self.bar(title) as progress:
            if not stream.prepare(threads=threads, progress=in_parts(progress), should_stop=self.should_stop):
                raise ScanCancelledError(
                    "expected to look at every slide first, but was stopped; the same command goes on"
                )

    def training(
        self, settings: TrainSettings, mined: tuple[HardNegative, ...], patches: BalancedPatches | None
    ) -> BatchSource:
        """Return the stage's batches: slides, mined places in the stead of other normal ones, and labelled patches."""
        stream = with_hard_negatives(
            self.slides,
            mined,
            self.spec,
            self.how.sampling,
            self.how.mining,
            settings.batch_size - (0 if patches is None else patches.batch_size),
            settings.seed,
            journal=self.journal,
            cut=self.cut,
        )
        parts = stream.parts if isinstance(stream, MixedBatches) else (stream,)
        for part in parts:
            if isinstance(part, SlideBatchSource):
                self._prepare("Looking at training slides", part)
        return stream if patches is None else MixedBatches((*parts, patches))

    def mine(self, number: int, weights: Path) -> tuple[HardNegative, ...]:
        """Return the false positives of a model on the training slides."""
        with self.bar(f"Mining, round {number}") as progress:
            return mine_cohort(
                self.slides,
                weights,
                self.output / f"mining-{number}",
                mining=self.how.mining,
                sampling=self.how.sampling,
                scan=self.how.scan,
                tissue=self.how.tissue,
                progress=progress,
                should_stop=self.should_stop,
                pass_over=self._fail,
            )

    def _fail(self, slide: CohortSlide, reason: str) -> None:
        if slide.name not in {failure.slide for failure in self.failures()}:
            _LOG.warning("%s is not mined and is passed over: %s", slide.name, reason)
        add_failure(self.journal, SlideFailure(slide.name, reason))
