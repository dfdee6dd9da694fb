"""Train on slides: general training first, then rounds of hard-negative mining (Lin et al. 2019, II-C)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from napari_metastasis.cohorts.cohort import Cohort
from napari_metastasis.errors import TrainingError, WeightsError
from napari_metastasis.models import InitialWeights, ModelSpec, load_initial, read_model, save_model
from napari_metastasis.sampling.batches import BalancedPatches, BatchSource
from napari_metastasis.sampling.hard_negatives import HardNegative, strongest_first
from napari_metastasis.settings import MiningSettings, TrainSettings
from napari_metastasis.training.train import train_scannet
from napari_metastasis.workflows.scan.batch import ProgressBar
from napari_metastasis.workflows.train.run import CohortTraining, StagedRun, begin_run, claim_folder

__all__ = ["train_on_cohort"]

_LOG = logging.getLogger(__name__)


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
    validation: BatchSource | None = None,
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
    in_batch = patches.batch_size if patches else 0
    run = begin_run(cohort, spec, how, output=output, patches_in_batch=in_batch, bar=bar, should_stop=should_stop)
    final = output / f"{spec.name}.safetensors"
    said = _said_before(final, how.mining.mining_rounds)
    measured = run.validation() if validation is None else validation
    # Not before: what has to be put right first may be the cohort itself.
    claim_folder(output, cohort)

    def stage(number: int, places: tuple[HardNegative, ...], begin: InitialWeights | None) -> Path:
        settings = how.train if number == 0 else _later(how.train, how.mining)
        settings = replace(settings, seed=settings.seed + number)
        return train_scannet(
            spec,
            training=run.training(settings, places, patches),
            validation=measured,
            output=output / f"stage-{number}",
            settings=settings,
            augment=how.augment,
            data_description=data_description,
            licence=licence,
            initial=begin,
        )

    weights = stage(0, (), initial)
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
        weights = stage(number, mined, load_initial(weights))
    model = read_model(weights)
    save_model(final, model.network, model.spec, {**model.card, **said, "mined": found})
    return StagedRun(final, tuple(found), run.failures())


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
        card = read_model(final).card
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


def _later(settings: TrainSettings, mining: MiningSettings) -> TrainSettings:
    """Return how a stage with hard negatives is trained: shorter, and more gently, for it begins with a good model."""
    return replace(
        settings,
        epochs=mining.mining_epochs or settings.epochs,
        learning_rate=settings.learning_rate * mining.mining_rate,
    )
