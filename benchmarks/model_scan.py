"""Scans with a model in memory, which need not have a name."""

from __future__ import annotations

from napari_metastasis.models import Detector, Model, ScanModels
from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan import AtHand, ScanJob, ScanResult, scan_slide


def scan_with(model: Detector, job: ScanJob, **others: Model) -> ScanResult:
    """Run a job with this detector, whatever its name says, and with further models by their task."""
    with EngineCache(lambda _: ScanModels(model, others)) as engines:
        return scan_slide(job, AtHand(engines=engines))
