"""How good a model is: patch by patch, over the pixels of scanned slides, and lesion by lesion."""

from __future__ import annotations

from napari_metastasis.evaluation.calibration import Calibration, fit_calibration
from napari_metastasis.evaluation.cells import CellCounts, CellReport, cell_report, count_cells
from napari_metastasis.evaluation.classification import (
    BinaryReport,
    Confusion,
    binary_report,
    calibration_error,
    precision_recall_points,
    roc_points,
    sensitivity_at,
)
from napari_metastasis.evaluation.detections import SlideDetections, read_detections_csv
from napari_metastasis.evaluation.folders import (
    ReferenceFiles,
    find_detections,
    find_reference,
    read_reference,
    score_folders,
)
from napari_metastasis.evaluation.froc import FrocCurve, FrocFigures, froc_curve, froc_figures
from napari_metastasis.evaluation.matching import LesionOutcome, SlideOutcome, match_slide
from napari_metastasis.evaluation.patches import PatchReport, evaluate_patches
from napari_metastasis.evaluation.point_folders import find_points, holds_points, score_point_folders
from napari_metastasis.evaluation.point_matching import PointFigures, PointOutcome, match_points, point_figures
from napari_metastasis.evaluation.point_report import PointReport, SlidePoints, score_points, thresholds_of
from napari_metastasis.evaluation.published import TABLE_III, TABLE_III_SOURCE, PublishedRow
from napari_metastasis.evaluation.reference_lesions import (
    ReferenceLesion,
    SlideReference,
    reference_from_annotations,
    reference_from_mask,
)
from napari_metastasis.evaluation.report import prepare_report, report_html, write_report
from napari_metastasis.evaluation.resampling import Estimate, Resamples
from napari_metastasis.evaluation.scoring import DetectionReport, LeftOut, ScoredCells, score_slides
from napari_metastasis.evaluation.sizes import SizeFigures, sensitivity_by_size
from napari_metastasis.evaluation.stages import Agreement, StageReport, agreement, quadratic_kappa, score_stages

__all__ = [
    "TABLE_III",
    "TABLE_III_SOURCE",
    "Agreement",
    "BinaryReport",
    "Calibration",
    "CellCounts",
    "CellReport",
    "Confusion",
    "DetectionReport",
    "Estimate",
    "FrocCurve",
    "FrocFigures",
    "LeftOut",
    "LesionOutcome",
    "PatchReport",
    "PointFigures",
    "PointOutcome",
    "PointReport",
    "PublishedRow",
    "ReferenceFiles",
    "ReferenceLesion",
    "Resamples",
    "ScoredCells",
    "SizeFigures",
    "SlideDetections",
    "SlideOutcome",
    "SlidePoints",
    "SlideReference",
    "StageReport",
    "agreement",
    "binary_report",
    "calibration_error",
    "cell_report",
    "count_cells",
    "evaluate_patches",
    "find_detections",
    "find_points",
    "find_reference",
    "fit_calibration",
    "froc_curve",
    "froc_figures",
    "holds_points",
    "match_points",
    "match_slide",
    "point_figures",
    "precision_recall_points",
    "prepare_report",
    "quadratic_kappa",
    "read_detections_csv",
    "read_reference",
    "reference_from_annotations",
    "reference_from_mask",
    "report_html",
    "roc_points",
    "score_folders",
    "score_point_folders",
    "score_points",
    "score_slides",
    "score_stages",
    "sensitivity_at",
    "sensitivity_by_size",
    "thresholds_of",
    "write_report",
]
