"""A slide goes in; its heatmap, detections and lesions come out: what the command line and the viewer both run."""

from __future__ import annotations

from napari_metastasis.workflows.scan.batch import FailedSlide, ScannedSlide, cohort_output, scan_cohort
from napari_metastasis.workflows.scan.overlay import overlay_picture
from napari_metastasis.workflows.scan.prepare import check_refiner, prepare_scan
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.refinement import latest_refined
from napari_metastasis.workflows.scan.result_folder import default_output, heatmap_path, scan_identity
from napari_metastasis.workflows.scan.results import ScanResult, write_results
from napari_metastasis.workflows.scan.scan_slide import scan_slide

__all__ = [
    "FailedSlide",
    "PreparedScan",
    "ScanResult",
    "ScannedSlide",
    "check_refiner",
    "cohort_output",
    "default_output",
    "heatmap_path",
    "latest_refined",
    "overlay_picture",
    "prepare_scan",
    "scan_cohort",
    "scan_identity",
    "scan_slide",
    "write_results",
]
