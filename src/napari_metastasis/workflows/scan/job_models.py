"""Which models a job needs, and which of them reads the detector's features."""

from __future__ import annotations

from dataclasses import replace

from napari_metastasis.errors import ModelError
from napari_metastasis.models import Model, ScanModels, load_scan_models, model_task
from napari_metastasis.tasks import DETECT, find_task, pass_tasks
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

__all__ = ["feature_reader", "load_job_models", "settle_job"]


def load_job_models(job: ScanJob) -> ScanModels:
    """Return the models that a job names or needs; see :func:`~napari_metastasis.models.load_scan_models`."""
    return load_scan_models(job.model, job.named_models, tasks=job.needed_tasks)


def settle_job(job: ScanJob) -> ScanJob:
    """Return the job with the pass of every named model switched on: whoever names a model wants its pass."""
    named = {*job.named_models, model_task(job.model)} - {DETECT}
    passes = [replace(one, settings=one.settings.wanting()) if one.task in named else one for one in job.passes]
    for name in named - {one.task for one in passes}:
        settings = find_task(name).settings
        assert settings is not None
        passes.append(PassRequest(task=name, settings=settings().not_keeping().wanting()))
    order = pass_tasks()
    return replace(job, passes=tuple(sorted(passes, key=lambda one: order.index(find_task(one.task)))))


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
