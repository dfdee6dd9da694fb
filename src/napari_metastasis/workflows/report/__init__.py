"""Reports: a page for each slide, pictures of what was found, and a summary over many slides."""

from __future__ import annotations

from napari_metastasis.workflows.report.many import find_slides, is_one_slide, scan_slides
from napari_metastasis.workflows.report.pictures import Found, finding_image, overview_image, write_overview
from napari_metastasis.workflows.report.reported_lesions import ReportedLesion
from napari_metastasis.workflows.report.result import (
    ReportedResult,
    find_results,
    read_result,
    result_maps,
    results_inside,
)
from napari_metastasis.workflows.report.summary import SlideSummary, SummaryFiles
from napari_metastasis.workflows.report.tables import update_slide, update_tables
from napari_metastasis.workflows.report.write import WrittenReport, report_path, write_picture, write_report

__all__ = [
    "Found",
    "ReportedLesion",
    "ReportedResult",
    "SlideSummary",
    "SummaryFiles",
    "WrittenReport",
    "find_results",
    "find_slides",
    "finding_image",
    "is_one_slide",
    "overview_image",
    "read_result",
    "report_path",
    "result_maps",
    "results_inside",
    "scan_slides",
    "update_slide",
    "update_tables",
    "write_overview",
    "write_picture",
    "write_report",
]
