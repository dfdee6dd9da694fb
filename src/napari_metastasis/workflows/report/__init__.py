"""Reports: a page for each slide, pictures of what was found, and a summary over many slides."""

from __future__ import annotations

from napari_metastasis.workflows.report.pictures import Found, finding_image, overview_image, write_overview
from napari_metastasis.workflows.report.result import ReportedResult, is_result, read_result
from napari_metastasis.workflows.report.write import WrittenReport, report_path, write_picture, write_report

__all__ = [
    "Found",
    "ReportedResult",
    "WrittenReport",
    "finding_image",
    "is_result",
    "overview_image",
    "read_result",
    "report_path",
    "write_overview",
    "write_picture",
    "write_report",
]
