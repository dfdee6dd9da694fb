"""Lesions: components of the heatmap with their score and size, and the detections in them."""

from napari_metastasis.lesions.export import write_detections_csv, write_lesions_csv, write_lesions_geojson
from napari_metastasis.lesions.index import LesionIndex, quick_detections
from napari_metastasis.lesions.lesion import Detection, Detections, Findings, Lesion
from napari_metastasis.lesions.measure import SizeClass, size_class

__all__ = [
    "Detection",
    "Detections",
    "Findings",
    "Lesion",
    "LesionIndex",
    "SizeClass",
    "quick_detections",
    "size_class",
    "write_detections_csv",
    "write_lesions_csv",
    "write_lesions_geojson",
]
