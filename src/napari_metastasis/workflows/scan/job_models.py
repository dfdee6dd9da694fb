"""The models of a job, and the passes that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from napari_metastasis import scanning
from napari_metastasis.errors import ModelError
from napari_metastasis.models import Calibrated, Model, ScanModels, load_scan_models, model_task, parents_of
from napari_metastasis.scanning import FEATURES, PIXELS, PROBABILITY, ChosenEngine, Pass
from napari_metastasis.settings import DEFAULT_MODEL
from napari_metastasis.tasks import DETECT, find_task, pass_tasks, resolve
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

__all__ = [
    "answering_contract",
    "answering_task",
    "check_passes",
    "feature_reader",
    "load_job_models",
    "make_engine",
    "own_thresholds",
    "settle_job",
    "with_own_settings",
]

#: What a pass may read that no other pass writes.
_ALWAYS_THERE = (PIXELS, FEATURES, PROBABILITY.name)


def load_job_models(job: ScanJob) -> ScanModels:
    """Return the models that a job names or needs, for its slides' share of tumour.

    See :func:`~napari_metastasis.models.load_scan_models`.

    Raises
    ------
    ModelError
        If the job has a prior, and the detector was not calibrated.
    """
    models = load_scan_models(job.model, job.named_models, tasks=job.needed_tasks)
    prior = job.scan.prior
    if not prior:
        return models
    others = {
        name: model.with_prior(prior) if model.contract is not None and model.contract.prior else model
        for name, model in models.others.items()
    }
    return replace(models, detector=models.detector.with_prior(prior), others=others)


def answering_task(job: ScanJob, models: ScanModels) -> str:
    """Return the task of the model whose probabilities lesions are read from: of the last pass that writes any."""
    found = DETECT
    for request in job.wanted_passes:
        later = models.others.get(request.task)
        # A blend has the threshold of its last pass at any share; a map that stands alone is read, or is not.
        unread = request.settings.stands_alone() and not request.settings.share
        found = found if later is None or later.contract is None or unread else request.task
    return found


def own_thresholds(job: ScanJob, models: ScanModels) -> Mapping[str, float]:
    """Return the threshold of every map's own model, by the map's name, where a scan has one that stands alone.

    Until that one answers for as much as the scan, lesions are read from another, whose probabilities mean something
    else. Nothing where a threshold was asked for.
    """
    wanted = job.wanted_passes
    if job.detection.threshold or not any(one.settings.stands_alone() for one in wanted):
        return {}
    found = {PROBABILITY.name: models.detector.spec.threshold}
    for request in wanted:
        contract = models.others[request.task].contract
        if contract is not None:
            found[find_task(request.task).writes] = contract.threshold
    return found


def answering_contract(job: ScanJob, models: ScanModels) -> Calibrated:
    """Return what these probabilities mean."""
    task = answering_task(job, models)
    found = models.detector.spec if task == DETECT else models.others[task].contract
    assert found is not None
    return found


def with_own_settings(job: ScanJob, models: ScanModels) -> ScanJob:
    """Return the job with what its models' cards say where nothing was asked for.

    The density is the detector's; the threshold is of the model whose map lesions are read from.
    """
    return replace(
        job,
        scan=job.scan.at_density(models.detector.spec.dense_coefficient),
        detection=job.detection.for_model(answering_contract(job, models).threshold),
    )


def settle_job(job: ScanJob) -> ScanJob:
    """Return the job with the pass of every named model switched on: whoever names a model wants its pass.

    Where the model itself is one that reads pixels, and no detector, its pass is made without one.
    """
    job = _without_detector(job)
    named = {*job.named_models, model_task(job.model)} - {DETECT}
    passes = [replace(one, settings=one.settings.wanting()) if one.task in named else one for one in job.passes]
    for name in named - {one.task for one in passes}:
        settings = find_task(name).settings
        assert settings is not None
        passes.append(PassRequest(task=name, settings=settings().not_keeping().wanting()))
    order = pass_tasks()
    return replace(job, passes=tuple(sorted(passes, key=lambda one: order.index(find_task(one.task)))))


def _without_detector(job: ScanJob) -> ScanJob:
    """Return the job with its model as that of a pass, where that is one that needs no detector."""
    task = find_task(model_task(job.model))
    if not task.scan_pass or resolve(task.scan_pass).reads != PIXELS:
        return job
    assert task.settings is not None
    usual = PassRequest(task=task.name, settings=task.settings())
    own = next((one for one in job.passes if one.task == task.name), usual)
    others = tuple(one for one in job.passes if one.task != task.name)
    return replace(job, model=DEFAULT_MODEL, detects=False, passes=(*others, replace(own, model=str(job.model))))


def feature_reader(job: ScanJob, models: ScanModels) -> Model | None:
    """Return the model that reads the detector's features in this scan, or could later; ``None`` where there is none.

    Raises
    ------
    ModelError
        If several passes of the scan read features, each its own.
    """
    known = [(one, models.others[one.task]) for one in job.passes if one.concerns_scan and one.task in models.others]
    readers = [(request, model) for request, model in known if model.encoder_sha256]
    wanted = [model for request, model in readers if request.settings.wanted]
    if len(wanted) > 1:
        raise ModelError(
            f"expected one pass that reads the detector's features, got {', '.join(one.name for one in wanted)}; "
            "make them one after the other"
        )
    return next(iter([*wanted, *(model for _, model in readers)]), None)


def make_engine(
    job: ScanJob, models: ScanModels, *, preferred_precision: str | None, should_stop: Callable[[], bool]
) -> ChosenEngine:
    """Return the engine of a job's detector; where that does not answer, what stands for one.

    Parameters
    ----------
    job, models
        The job and its models.
    preferred_precision, should_stop
        As :func:`~napari_metastasis.scanning.choose_engine` takes them.

    Raises
    ------
    MetastasisError
        As that function does.
    """
    if not job.detects:
        return scanning.idle_engine(models.detector, job.scan, preferred_precision=preferred_precision)
    return scanning.choose_engine(
        models.detector,
        job.scan,
        reader=feature_reader(job, models),
        preferred_precision=preferred_precision,
        should_stop=should_stop,
    )


def check_passes(job: ScanJob, models: ScanModels) -> tuple[Pass, ...]:
    """Return the passes that a job wants, made of their models.

    Raises
    ------
    ModelError
        If one lacks its model or the map that it reads, or has a model that does not follow the detector.
    """
    found: list[Pass] = []
    written = set(_ALWAYS_THERE)
    for request in job.passes:
        model = models.others.get(request.task)
        if model is not None:
            model.check(models.detector)
        if not request.settings.wanted:
            continue
        task = find_task(request.task)
        if model is None:
            # Who asked for nothing but this pass has no scan to make without it.
            instead = f"scan without --{request.task}" if job.detects else f"name its file with {task.model_option}"
            name, parents = models.detector.name, parents_of(models.detector.card)
            why = f": it was retrained from {parents[0]}, whose {task.noun} does not fit it" if parents else ""
            raise ModelError(f"expected a {task.noun} for {name}, got none{why}; train one, or {instead}")
        made: Pass = resolve(task.scan_pass).of(model, request.settings)
        if made.reads not in written:
            raise ModelError(
                f"expected a scan that writes the {made.reads} map, which {model.name} reads, got none; "
                f"make that map as well, or scan without --{request.task}"
            )
        written.add(made.writes.name)
        found.append(made)
    return tuple(found)
