"""Scanning slides, from the job to the result folder."""

from __future__ import annotations

from napari_metastasis.workflows.engine_cache import EngineCache
from napari_metastasis.workflows.scan.batch import FailedSlide, ScannedSlide, check_outputs, cohort_output, scan_cohort
from napari_metastasis.workflows.scan.job_models import answering_task, check_passes, load_job_models, settle_job
from napari_metastasis.workflows.scan.prepare import prepare_scan
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.recorded_tissue import recorded_tissue
from napari_metastasis.workflows.scan.result_folder import (
    EarlierResult,
    default_output,
    earlier_result,
    heatmap_path,
)
from napari_metastasis.workflows.scan.results import ScanResult
from napari_metastasis.workflows.scan.runner import run_scan, scan_slide
from napari_metastasis.workflows.scan_job import AtHand, PassRequest, ScanJob

__all__ = [
    "AtHand",
    "EarlierResult",
    "EngineCache",
    "FailedSlide",
    "PassRequest",
    "PreparedScan",
    "ScanJob",
    "ScanResult",
    "ScannedSlide",
    "answering_task",
    "check_outputs",
    "check_passes",
    "cohort_output",
    "default_output",
    "earlier_result",
    "heatmap_path",
    "load_job_models",
    "prepare_scan",
    "recorded_tissue",
    "run_scan",
    "scan_cohort",
    "scan_slide",
    "settle_job",
]
