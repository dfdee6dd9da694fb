"""Lesions: components of the heatmap with their score and size, and the detections in them."""

from napari_metastasis.lesions.annotated import annotations_of, lesion_of
from napari_metastasis.lesions.contours import ContourLines, contour_lines
from napari_metastasis.lesions.deciding import Decision, confirmed, decide, doubt, unspoken_under
from napari_metastasis.lesions.export import write_detections_csv, write_lesions_csv, write_lesions_geojson
from napari_metastasis.lesions.index import LesionIndex
from napari_metastasis.lesions.lesion import Detection, Detections, Findings, Lesion, LesionRow
from napari_metastasis.lesions.listed import (
    ListedLesions,
    changed_text,
    grid_of_outlines,
    list_lesions,
    listed_rows,
    review_counts,
    review_text,
    unread_lesions,
)
from napari_metastasis.lesions.measure import longest_diameter
from napari_metastasis.lesions.mitoses import Mitoses, MitosisCount, found_mitoses
from napari_metastasis.lesions.mitosis_files import (
    ListedMitoses,
    mitoses_table,
    read_listed_mitoses,
    write_mitoses_csv,
    write_mitoses_geojson,
)
from napari_metastasis.lesions.mitosis_review import decide_mitosis, new_mitoses
from napari_metastasis.lesions.peaks import find_points
from napari_metastasis.lesions.reviewed import CorrectionCells, Reviewed, match_corrections
from napari_metastasis.lesions.said import LesionReview
from napari_metastasis.lesions.searched import Searched, SearchedTissue
from napari_metastasis.lesions.size_classes import (
    ITC_CELLS,
    LIMITS_MM,
    SIZE_CLASSES,
    SizeClass,
    count_text,
    size_class,
    size_class_rule,
)
from napari_metastasis.lesions.staging import (
    STAGES,
    VERDICTS,
    NodeFinding,
    PatientStage,
    SlideVerdict,
    Stage,
    Verdict,
    slide_verdict,
    stage_of,
    stage_patient,
)

__all__ = [
    "ITC_CELLS",
    "LIMITS_MM",
    "SIZE_CLASSES",
    "STAGES",
    "VERDICTS",
    "ContourLines",
    "CorrectionCells",
    "Decision",
    "Detection",
    "Detections",
    "Findings",
    "Lesion",
    "LesionIndex",
    "LesionReview",
    "LesionRow",
    "ListedLesions",
    "ListedMitoses",
    "Mitoses",
    "MitosisCount",
    "NodeFinding",
    "PatientStage",
    "Reviewed",
    "Searched",
    "SearchedTissue",
    "SizeClass",
    "SlideVerdict",
    "Stage",
    "Verdict",
    "annotations_of",
    "changed_text",
    "confirmed",
    "contour_lines",
    "count_text",
    "decide",
    "decide_mitosis",
    "doubt",
    "find_points",
    "found_mitoses",
    "grid_of_outlines",
    "lesion_of",
    "list_lesions",
    "listed_rows",
    "longest_diameter",
    "match_corrections",
    "mitoses_table",
    "new_mitoses",
    "read_listed_mitoses",
    "review_counts",
    "review_text",
    "size_class",
    "size_class_rule",
    "slide_verdict",
    "stage_of",
    "stage_patient",
    "unread_lesions",
    "unspoken_under",
    "write_detections_csv",
    "write_lesions_csv",
    "write_lesions_geojson",
    "write_mitoses_csv",
    "write_mitoses_geojson",
]
