"""Train on slides: general training first, then rounds of hard-negative mining (Lin et al. 2019, II-C)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.errors import CohortError, ScanCancelledError, TrainingError, WeightsError
from napari_metastasis.models import InitialWeights, ModelSpec, load_checkpoint, load_initial, save_checkpoint
from napari_metastasis.pipeline.cohort import ProgressBar, in_parts
from napari_metastasis.pipeline.mining_round import listing, mine_cohort
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
from napari_metastasis.training.cohort import Cohort, CohortSlide, read_cohort, write_cohort
from napari_metastasis.training.failures import JOURNAL, SlideFailure, add_failure, read_failures
from napari_metastasis.training.hard_negatives import HardNegative, strongest_first
from napari_metastasis.training.loop import train_scannet
from napari_metastasis.training.mined_stream import check_shares, with_hard_negatives
from napari_metastasis.training.sampling import SlideStream
from napari_metastasis.training.slide_stream import StreamOfSlides
from napari_metastasis.training.streams import BalancedPatches, MixedStream, PatchStream
from napari_metastasis.training.truth import tumour_value_of

__all__ = ["CohortTraining", "StagedRun", "train_on_cohort"]

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


def train_on_cohort(
    cohort: Cohort,
    spec: ModelSpec,
    how: CohortTraining,
    *,
    output: Path,
    data_description: str,
    licence: str,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
    initial: InitialWeights | None = None,
    patches: BalancedPatches | None = None,
    validation: PatchStream | None = None,
) -> StagedRun:
    """Train on slides; then scan them for false positives and train on with these, as many rounds as asked.

    Everything lies in the run folder: ``cohort.csv`` (the slides with the splits that were used), ``stage-0``,
    ``mining-1`` (heatmaps, ``hard_negatives.csv``, contact sheets), ``stage-1`` …, ``failures.jsonl``, and the final
    model. Each step that is done is kept: a run that was killed goes on where it stopped.

    Parameters
    ----------
    cohort
        Slides with annotations and splits.
    spec
        What to train.
    how
        Every setting.
    output
        Run folder.
    data_description, licence
        For the model card; that of a run that was finished before keeps what it says.
    bar
        Shows the steps that are no training, which has a bar of its own.
    should_stop
        Asked during these steps.
    initial
        Weights to begin with.
    patches
        Labelled patches: its batch is the part that they take of every batch, beside those of the slides.
    validation
        What each epoch is measured on; the cohort's validation slides by default.

    Raises
    ------
    CohortError
        If there is nothing to train or to measure on.
    TrainingError
        If the folder holds another run, or training cannot go on.
    ScanCancelledError
        If ``should_stop`` said so; the same call goes on.
    """
    training = cohort.of("train")
    if not training:
        raise CohortError(f"expected slides to train on, got none in {cohort.origin}; mark some as train")
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    if how.mining.mining_rounds:
        # Before hours of general training, not after them.
        check_shares(how.sampling, how.mining, how.train.batch_size - (patches.batch_size if patches else 0))
    if not how.sampling.tumour_value:
        # Said once for all slides: the splits of a cohort must not differ in what they take for tumour.
        how = replace(how, sampling=replace(how.sampling, tumour_value=tumour_value_of(cohort.slides)))
    final = output / f"{spec.name}.safetensors"
    said = _said_before(final, how.mining.mining_rounds)
    run = _Run(cohort, training, spec, how, output, data_description, licence, bar, should_stop)
    measured = run.validation() if validation is None else validation
    # Not before: what has to be put right first may be the cohort itself.
    _claim(output, cohort)
    weights = run.train(0, (), initial=initial, patches=patches, validation=measured)
    mined: tuple[HardNegative, ...] = ()
    found = []
    for number in range(1, how.mining.mining_rounds + 1):
        fresh = run.mine(number, weights)
        found.append(len(fresh))
        mined = _merged(mined, fresh)
        if not mined:
            # Nothing to learn from.
            _LOG.warning("nothing was mined in round %d: the model of the stage before is the run's", number)
            break
        weights = run.train(number, mined, initial=load_initial(weights), patches=patches, validation=measured)
    model = load_checkpoint(weights)
    save_checkpoint(final, model.network, model.spec, {**model.card, **said, "mined": found})
    return StagedRun(final, tuple(found), run.failures())


def _claim(output: Path, cohort: Cohort) -> None:
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


def _merged(earlier: tuple[HardNegative, ...], fresh: tuple[HardNegative, ...]) -> tuple[HardNegative, ...]:
    """Return the places of all rounds; one found again counts with what the latest model says of it."""
    places = {(place.slide, place.x, place.y): place for place in (*earlier, *fresh)}
    return strongest_first(places.values())


def _said_before(final: Path, rounds: int) -> dict[str, str]:
    """Return what the card of a finished run says of data and licence, which may have been corrected since.

    Raises
    ------
    TrainingError
        If it has more rounds behind it than are asked for: no earlier model takes the place of a finished one.
    """
    try:
        card = load_checkpoint(final).card
    except WeightsError:
        # Not there, or not whole: a kill may have come between its weights and its card. The stages hold all of it.
        return {}
    done = len(card.get("mined", ()))
    if done > rounds:
        raise TrainingError(
            f"expected mining rounds of at least {done}, which {final} has behind it, got {rounds}; the model after "
            f"round {rounds} is {final.parent / f'stage-{rounds}' / final.name}"
        )
    return {key: card[key] for key in ("data", "licence") if key in card}


@dataclass(frozen=True, slots=True)
class _Run:
    """A run with all that its steps share."""

    cohort: Cohort
    slides: tuple[CohortSlide, ...]
    spec: ModelSpec
    how: CohortTraining
    output: Path
    data_description: str
    licence: str
    bar: ProgressBar
    should_stop: Callable[[], bool]

    @property
    def journal(self) -> Path:
        return self.output / JOURNAL

    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every failure of this run's folder, once for each slide."""
        return read_failures(self.journal)

    def validation(self) -> PatchStream:
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
        stream = SlideStream(
            slides, self.spec, sampling, self.how.train.batch_size, _VALIDATION_SEED, journal=self.journal
        )
        self._prepare("Looking at validation slides", stream)
        return stream

    def _prepare(self, title: str, stream: StreamOfSlides) -> None:
        threads = reading_threads(self.how.scan.threads, beside_network=False)
        with self.bar(title) as progress:
            if not stream.prepare(threads=threads, progress=in_parts(progress), should_stop=self.should_stop):
                raise ScanCancelledError(
                    "expected to look at every slide first, but was stopped; the same command goes on"
                )

    def train(
        self,
        number: int,
        mined: tuple[HardNegative, ...],
        *,
        initial: InitialWeights | None,
        patches: BalancedPatches | None,
        validation: PatchStream,
    ) -> Path:
        """Train one stage; return its model."""
        settings = self.how.train if number == 0 else _later(self.how.train, self.how.mining)
        settings = replace(settings, seed=settings.seed + number)
        return train_scannet(
            self.spec,
            training=self._training(settings, mined, patches),
            validation=validation,
            output=self.output / f"stage-{number}",
            settings=settings,
            augment=self.how.augment,
            data_description=self.data_description,
            licence=self.licence,
            initial=initial,
        )

    def _training(
        self, settings: TrainSettings, mined: tuple[HardNegative, ...], patches: BalancedPatches | None
    ) -> PatchStream:
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
        )
        parts = stream.parts if isinstance(stream, MixedStream) else (stream,)
        for part in parts:
            if isinstance(part, StreamOfSlides):
                self._prepare("Looking at training slides", part)
        return stream if patches is None else MixedStream((*parts, patches))

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


def _later(settings: TrainSettings, mining: MiningSettings) -> TrainSettings:
    """Return how a stage with hard negatives is trained: shorter, and more gently, for it begins with a good model."""
    return replace(
        settings,
        epochs=mining.mining_epochs or settings.epochs,
        learning_rate=settings.learning_rate * mining.mining_rate,
    )
