"""Scans with models in memory: what tests say of one, as a job and what is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_metastasis.models import Detector, MitosisModel, Refiner, ScanModels, Segmenter
from napari_metastasis.scanning import ChosenEngine, choose_engine
from napari_metastasis.settings import MitosisSettings, RefineSettings, ScanSettings, SegmentSettings
from napari_metastasis.slides import Slide
from napari_metastasis.workflows.engine_cache import EngineCache, ReadyEngine
from napari_metastasis.workflows.scan import AtHand, PassRequest, ScanJob, ScanResult, prepare_scan, scan_slide

__all__ = ["NOT_REFINED", "SCAN", "HeldEngine", "job_of", "prepared_scan", "scan_with"]

SCAN = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=160, dense_coefficient=2)
#: Nothing is refined or kept for it.
NOT_REFINED = RefineSettings(keep_features=False)


class HeldEngine:
    """Hands out one engine that was made before, and closes nothing."""

    def __init__(self, models: ScanModels, chosen: ChosenEngine) -> None:
        self.ready = ReadyEngine(models, chosen)

    @contextmanager
    def use(self, *_: object) -> Iterator[ReadyEngine]:
        yield self.ready


def job_of(
    slide: Slide,
    output: Path | None,
    *,
    refine: RefineSettings = NOT_REFINED,
    segment: SegmentSettings | None = None,
    mitosis: MitosisSettings | None = None,
    **job: object,
) -> ScanJob:
    """Return the job of a scan of an open slide with a model in memory."""
    requests = (PassRequest(task="refine", settings=refine),)
    if segment is not None:
        requests = (*requests, PassRequest(task="segment", settings=segment))
    if mitosis is not None:
        requests = (*requests, PassRequest(task="mitosis", settings=mitosis))
    return ScanJob(slide=slide.path, model="in memory", passes=requests, output=output, **job)


def models_of(
    model: Detector,
    refiner: Refiner | None,
    segmenter: Segmenter | None = None,
    mitosis_model: MitosisModel | None = None,
) -> ScanModels:
    others = {"refine": refiner, "segment": segmenter, "mitosis": mitosis_model}
    return ScanModels(model, {task: other for task, other in others.items() if other is not None})


def scan_with(
    slide: Slide,
    model: Detector,
    output: Path | None,
    *,
    refiner: Refiner | None = None,
    segmenter: Segmenter | None = None,
    mitosis_model: MitosisModel | None = None,
    chosen: ChosenEngine | None = None,
    progress=None,
    should_stop=lambda: False,
    **job: object,
) -> ScanResult:
    """Scan an open slide with a model in memory; ``chosen`` is an engine that was made before."""
    models = models_of(model, refiner, segmenter, mitosis_model)
    with EngineCache(lambda _: models) as cache:
        engines = cache if chosen is None else HeldEngine(models, chosen)
        at_hand = AtHand(slide=slide, engines=engines)
        return scan_slide(job_of(slide, output, **job), at_hand, progress=progress, should_stop=should_stop)


@contextmanager
def prepared_scan(slide, model, output, *, refiner=None, chosen=None, **job):
    """Prepare a scan; an engine is made for it unless ``chosen`` is one."""
    models, asked = models_of(model, refiner), job_of(slide, output, **job)
    reader = refiner if refiner is not None and asked.needed_tasks else None
    made = choose_engine(model, asked.scan, reader=reader) if chosen is None else chosen
    try:
        with prepare_scan(slide, asked, ReadyEngine(models, made)) as prepared:
            yield prepared
    finally:
        if chosen is None:
            made.engine.close()
