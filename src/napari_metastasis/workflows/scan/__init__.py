"""Scanning slides, from the job to the result folder.

What needs torch is imported on first use: earlier results are read without it, which takes seconds to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_metastasis.lazy_names import import_on_use
from napari_metastasis.workflows.scan.earlier import (
    EarlierResult,
    EarlierScan,
    earlier_result,
    earlier_results,
    load_result,
)
from napari_metastasis.workflows.scan.places import remember_place
from napari_metastasis.workflows.scan.recorded_tissue import recorded_tissue
from napari_metastasis.workflows.scan.result_folder import (
    corrections_folder,
    default_output,
    heatmap_path,
    journals_of,
    record_of,
)
from napari_metastasis.workflows.scan.review_mark import ReviewMark, read_review, write_review
from napari_metastasis.workflows.scan.shown import Shown, read_shown, write_shown
from napari_metastasis.workflows.scan_job import AtHand, PassRequest, ScanJob

if TYPE_CHECKING:
    from napari_metastasis.workflows.engine_cache import EngineCache
    from napari_metastasis.workflows.scan.batch import (
        FailedSlide,
        ScannedSlide,
        SlideScanner,
        check_outputs,
        cohort_output,
        scan_cohort,
        scan_each,
    )
    from napari_metastasis.workflows.scan.job_models import answering_task, check_passes, load_job_models, settle_job
    from napari_metastasis.workflows.scan.prepare import prepare_scan
    from napari_metastasis.workflows.scan.prepared import PreparedScan
    from napari_metastasis.workflows.scan.results import ScanResult
    from napari_metastasis.workflows.scan.runner import run_scan, scan_slide

__all__ = [
    "AtHand",
    "EarlierResult",
    "EarlierScan",
    "EngineCache",
    "FailedSlide",
    "PassRequest",
    "PreparedScan",
    "ReviewMark",
    "ScanJob",
    "ScanResult",
    "ScannedSlide",
    "Shown",
    "SlideScanner",
    "answering_task",
    "check_outputs",
    "check_passes",
    "cohort_output",
    "corrections_folder",
    "default_output",
    "earlier_result",
    "earlier_results",
    "heatmap_path",
    "journals_of",
    "load_job_models",
    "load_result",
    "prepare_scan",
    "read_review",
    "read_shown",
    "record_of",
    "recorded_tissue",
    "remember_place",
    "run_scan",
    "scan_cohort",
    "scan_each",
    "scan_slide",
    "settle_job",
    "write_review",
    "write_shown",
]

#: Where what needs torch is at home.
_HOMES = {
    "EngineCache": ".engine_cache",
    "FailedSlide": "batch",
    "PreparedScan": "prepared",
    "ScanResult": "results",
    "ScannedSlide": "batch",
    "SlideScanner": "batch",
    "answering_task": "job_models",
    "check_passes": "job_models",
    "check_outputs": "batch",
    "cohort_output": "batch",
    "load_job_models": "job_models",
    "prepare_scan": "prepare",
    "run_scan": "runner",
    "scan_cohort": "batch",
    "scan_each": "batch",
    "scan_slide": "runner",
    "settle_job": "job_models",
}

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, _HOMES)
