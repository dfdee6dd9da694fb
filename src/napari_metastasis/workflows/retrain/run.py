"""Retrain a model on what was corrected in results, within a budget of time, and judge what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.errors import ModelError, ScanCancelledError, TrainingError, in_one_line
from napari_metastasis.models import (
    MitosisModel,
    Model,
    check_name,
    list_models,
    load_detector,
    load_model,
    weights_of,
)
from napari_metastasis.models.tuning import LowerLayers
from napari_metastasis.storage import storage_errors
from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, gather, part
from napari_metastasis.workflows.retrain.earlier import (
    EARLIER_REPLAY,
    earlier_patches,
    encoded_by,
    remembered,
    replay_beside,
)
from napari_metastasis.workflows.retrain.job import Retraining, identity_of, learnt_by
from napari_metastasis.workflows.retrain.judging import judged
from napari_metastasis.workflows.retrain.learning import learn
from napari_metastasis.workflows.retrain.prepared import Prepared
from napari_metastasis.workflows.retrain.run_job import RunJob
from napari_metastasis.workflows.retrain.run_log import ProgressBar, RunLog
from napari_metastasis.workflows.retrain.runs import next_name, note_job, runs_folder
from napari_metastasis.workflows.retrain.verdict import Verdict

__all__ = ["Retrained", "Retraining", "retrain", "retraining_folder"]


@dataclass(frozen=True, slots=True, eq=False)
class Retrained:
    """What came out.

    Attributes
    ----------
    weights
        Of the new model, in its run folder.
    verdict
        Whether it is better.
    corrected, parted
        What it learnt from, and what it was judged by.
    notes
        What a person has to know, a line each.
    """

    weights: Path
    verdict: Verdict
    corrected: Corrected
    parted: Parted
    notes: tuple[str, ...]


def retraining_folder(name: str, identity: str) -> Path:
    """Return the run folder of a retraining among the user's own."""
    return runs_folder() / f"{name}-{identity[:8]}"


def retrain(job: Retraining, *, show: ProgressBar, should_stop: Callable[[], bool]) -> Retrained:
    """Retrain a model; a run that was killed goes on when it is begun again.

    Its folder gets what :func:`~napari_metastasis.training.train.train` writes, in folders of their own where there are
    two trainings, ``progress.jsonl``, ``held-out.csv`` and ``verdict.json``. A file ``stop`` there ends it, and so does
    ``should_stop``: the model is what was learnt until then.

    Parameters
    ----------
    job
        What, and how.
    show
        Shows each step.
    should_stop
        Whether to end.

    Raises
    ------
    ModelError
        If the model cannot be retrained.
    TrainingError
        If nothing was corrected, no mitosis for a model of these, or the folder holds another run.
    ScanCancelledError
        If it was ended before it had learnt anything; the same call goes on.
    StorageError
        If the folder cannot be written.
    """
    deadline = time.monotonic() + job.budget_s
    model = load_model(job.model)
    if isinstance(model, MitosisModel):
        return _of_mitoses(job, model, show, should_stop, deadline)
    detector = load_detector(job.model)
    lower = LowerLayers(detector)
    seed = job.settings.seed
    patches = earlier_patches(job.patches, detector.spec, job.whole, seed=seed)
    corrected = gather(job.results, detector.spec)
    parted = part(corrected, detector.spec, job.corrections, seed=seed, learnt=learnt_by(detector.card))
    replay, notes = replay_beside(job.model, detector)
    identity = identity_of(job, detector, corrected, replay, patches)
    with _run_folder(job, detector, identity, show, should_stop, deadline) as (name, output, log):
        if replay is None and patches is not None:
            replay, notes = encoded_by(detector, patches, remembered(patches, None), output / EARLIER_REPLAY, log), []
        prepared = Prepared(job, detector, lower, corrected, parted, replay, patches, name, output, log, identity)
        weights = learn(prepared)
        if log.is_cancelled:
            raise ScanCancelledError("the retraining was cancelled")
        verdict = judged(prepared, weights)
        log.tell(ended=weights.name, sentence=verdict.sentence)
    return Retrained(weights, verdict, corrected, parted, (*corrected.left_out, *notes, *prepared.notes()))


def _of_mitoses(
    job: Retraining, model: MitosisModel, show: ProgressBar, should_stop: Callable[[], bool], deadline: float
) -> Retrained:
    """Retrain a model of mitoses; see :func:`retrain`."""
    from napari_metastasis.workflows.retrain.mitoses import PointRun

    if job.patches is not None:
        raise ModelError(
            f"expected results alone to retrain {model.name}, got --patches, which are for detectors; leave them out"
        )
    if model.spec.input != "rgb":
        raise ModelError(
            f"expected a model that reads colours as they are to retrain, got {model.name}, whose input is "
            f"{model.spec.input}; choose another model, or train one anew"
        )
    corrected = gather(job.results, model.spec)
    parted = part(corrected, model.spec, job.corrections, seed=job.settings.seed, learnt=learnt_by(model.card))
    if not any(one.label for one in parted.training):
        raise TrainingError(
            f"expected mitoses that were confirmed or added beside {len(parted.training)} places that are none, got no "
            "such; confirm or add some, also on another slide: who only hears where none is soon finds none"
        )
    identity = identity_of(job, model, corrected, None, None)
    with _run_folder(job, model, identity, show, should_stop, deadline) as (name, output, log):
        run = PointRun(job, model, corrected, parted, name, output, log)
        weights = run.learn()
        if log.is_cancelled:
            raise ScanCancelledError("the retraining was cancelled")
        verdict = run.judged(weights)
        log.tell(ended=weights.name, sentence=verdict.sentence)
    return Retrained(weights, verdict, corrected, parted, (*corrected.left_out, *run.notes()))


@contextmanager
def _run_folder(
    job: Retraining,
    model: Model,
    identity: str,
    show: ProgressBar,
    should_stop: Callable[[], bool],
    deadline: float,
) -> Iterator[tuple[str, Path, RunLog]]:
    """Yield the new model's name, the run folder, and its log, which tells why it fails where it does."""
    name = job.name or next_name(model.name)
    check_name(name)
    output = job.output or retraining_folder(name, identity)
    _check_free(name, output)
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    log = RunLog(output, show, should_stop, deadline)
    try:
        note_job(output, _noted(job, name))
        yield name, output, log
    except (Exception, KeyboardInterrupt) as error:
        log.tell(failed=in_one_line(error) if isinstance(error, Exception) else "stopped")
        raise
    finally:
        log.close()


def _check_free(name: str, output: Path) -> None:
    """Refuse a name that a model has, unless it is this run's own, which was finished before."""
    if any(one.name == name for one in list_models()) and not (output / f"{name}.safetensors").exists():
        raise ModelError(f"expected a name that no model has, got {name!r}; take another --name")


def _noted(job: Retraining, name: str) -> RunJob:
    """Return what is noted of a run: whoever goes on with it may stand in another folder."""
    model = weights_of(job.model).absolute() if Path(job.model).suffix == ".safetensors" else job.model
    return RunJob(
        results=tuple(one.absolute() for one in job.results),
        model=str(model),
        name=name,
        budget_s=job.budget_s,
        begun=time.time(),
        patches=None if job.patches is None else job.patches.absolute(),
        settings=job.settings,
        corrections=job.corrections,
        whole=job.whole,
    )
