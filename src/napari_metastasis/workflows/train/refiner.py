"""Train a refiner on the slides of a cohort: mine its encoder's false positives, then train on windows around them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from napari_metastasis.cohorts.cohort import Cohort
from napari_metastasis.models import check_name, save_model
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.storage import storage_errors
from napari_metastasis.training.jobs import EncoderJob, RefinerJob
from napari_metastasis.training.train import train
from napari_metastasis.workflows.scan.batch import ProgressBar
from napari_metastasis.workflows.train.run import CohortTraining, StagedRun, begin_run, claim_folder

__all__ = ["train_refiner_on_cohort"]

_LOG = logging.getLogger(__name__)


def train_refiner_on_cohort(
    cohort: Cohort,
    job: RefinerJob | EncoderJob,
    how: CohortTraining,
    *,
    output: Path,
    data_description: str,
    licence: str,
    bar: ProgressBar,
    should_stop: Callable[[], bool],
) -> StagedRun:
    """Train a refiner, alone or with its encoder.

    Behind a finished encoder, the training slides are first scanned for what it takes for tumour and is none, if
    ``how.mining.mining_rounds`` asks for it. Everything lies in the run folder: ``cohort.csv``, ``mining-1``,
    ``spatial`` (the run), ``failures.jsonl``. A run that was killed goes on where it stopped.

    Parameters
    ----------
    cohort
        Slides with annotations and splits.
    job
        What to train.
    how
        Every setting; ``how.train`` are :class:`~napari_metastasis.settings.SpatialTrainSettings`.
    output
        Run folder.
    data_description, licence
        For the model card.
    bar, should_stop
        As :func:`~napari_metastasis.workflows.train.detector.train_on_cohort` takes them.

    Raises
    ------
    CohortError
        If there is nothing to train or to measure on.
    TrainingError
        If the folder holds another run, or training cannot go on.
    ScanCancelledError
        If ``should_stop`` said so; the same call goes on.
    """
    check_name(job.name)
    job.identity()  # refuses grids that cannot be, before anything is written
    if isinstance(job, EncoderJob):
        # There is nothing yet that could be mistaken.
        how = replace(how, mining=replace(how.mining, mining_rounds=0))
    spec = job.model.spec if isinstance(job, RefinerJob) else job.encoder
    run = begin_run(cohort, spec, how, output=output, patches_in_batch=0, bar=bar, should_stop=should_stop, cut=job.cut)
    measured = run.validation()
    claim_folder(output, cohort)
    mined: tuple[HardNegative, ...] = ()
    if isinstance(job, RefinerJob) and how.mining.mining_rounds:
        with storage_errors(output):
            encoder = output / "encoder" / f"{spec.name}.safetensors"
            encoder.parent.mkdir(exist_ok=True)
            if not (encoder.exists() and encoder.with_suffix(".json").exists()):
                save_model(encoder, job.model.network, spec, job.model.card)
        mined = run.mine(1, encoder)
        if not mined:
            _LOG.warning("nothing was mined: the refiner is trained without hard negatives")
    weights = train(
        job,
        training=run.training(how.train, mined, None),
        validation=measured,
        output=output / "spatial",
        settings=how.train,
        augment=how.augment,
        data_description=data_description,
        licence=licence,
    )
    return StagedRun(weights, (len(mined),), run.failures())
