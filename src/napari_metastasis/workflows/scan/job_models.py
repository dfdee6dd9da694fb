"""Which models a job needs, and which pass reads the detector's features."""

from __future__ import annotations

from dataclasses import replace

from napari_metastasis.errors import ModelError
from napari_metastasis.models import Model, ScanModels, load_scan_models, model_task
from napari_metastasis.tasks import DETECT, find_task
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

__all__ = ["feature_reader", "load_job_models", "settle_job"]


def load_job_models(job: ScanJob) -> ScanModels:
    """Return the models that a job names or needs; see :func:`~napari_metastasis.models.load_scan_models`."""
    return load_scan_models(job.model, job.named_models, tasks=job.needed_tasks)


def settle_job(job: ScanJob) -> ScanJob:
    """Return the job with every pass wanted whose model is named: whoever names a model wants its pass."""
    named = {*job.named_models, model_task(job.model)} - {DETECT}
    passes = [replace(one, settings=one.settings.wanting()) if one.task in named else one for one in job.passes]
    for name in sorted(named - {one.task for one in passes}):
        settings = find_task(name).settings
        assert settings is not None
        passes.append(PassRequest(task=name, settings=settings().not_keeping().wanting()))
    return replace(job, passes=tuple(passes))


def feature_reader(job: ScanJob, models: ScanModels) -> Model | None:
    """Return the model of the pass that the detector hands out features for; ``None`` where there is none.

    Raises
    ------
    ModelError
        If several passes read features, each its own.
    """
    readers = [models.others[task] for task in job.needed_tasks if task in models.others]
    readers = [model for model in readers if model.encoder_sha256]
    if len(readers) > 1:
        raise ModelError(
            f"expected one pass that reads the detector's features, got {', '.join(one.name for one in readers)}; "
            "make them one after the other"
        )
    return readers[0] if readers else None
