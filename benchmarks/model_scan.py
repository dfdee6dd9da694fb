"""Scans with models in memory, which need not have a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from napari_metastasis.models import Detector, Model, ScanModels
from napari_metastasis.slides import Slide
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan import AtHand, PreparedScan, ScanJob, ScanResult, prepare_scan, scan_slide


def scan_with(model: Detector, job: ScanJob, **others: Model) -> ScanResult:
    """Run a job with this detector, whatever its name says, and with further models by their task."""
    with EngineCache(lambda _: ScanModels(model, others)) as engines:
        return scan_slide(job, AtHand(engines=engines))


@contextmanager
def prepared_with(model: Detector, slide: Slide, job: ScanJob, **others: Model) -> Iterator[PreparedScan]:
    """Prepare a job on an open slide with this detector, and with further models by their task."""
    with (
        EngineCache(lambda _: ScanModels(model, others)) as engines,
        engines.use(job, lambda: False) as ready,
        prepare_scan(slide, job, ready) as prepared,
    ):
        yield prepared
