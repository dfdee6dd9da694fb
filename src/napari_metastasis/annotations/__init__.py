"""Outlines that a person drew, in level-0 pixels, in and out of files; masks; points; and the store of corrections."""

from __future__ import annotations

from napari_metastasis.annotations.asap import read_asap_xml, write_asap_xml
from napari_metastasis.annotations.corrections import Correction, Corrections, Finding
from napari_metastasis.annotations.corrections_file import (
    CorrectionsFile,
    annotations_of_corrections,
    corrections_of,
    read_corrections,
    write_corrections,
)
from napari_metastasis.annotations.dsa import read_dsa_json, write_dsa_json
from napari_metastasis.annotations.geojson import read_geojson
from napari_metastasis.annotations.history import History
from napari_metastasis.annotations.hot_spots import HotSpot, hot_spot
from napari_metastasis.annotations.mask_file import MaskFile, mask_downsample
from napari_metastasis.annotations.masks import MaskImage, read_mask
from napari_metastasis.annotations.mitosis_corrections import (
    MitosisPoints,
    add_points,
    corrections_of_points,
    decide_point,
    mitosis_points,
)
from napari_metastasis.annotations.points import MITOSIS, NOT_A_MITOSIS, PointSet, read_points
from napari_metastasis.annotations.polygons import EXCLUSION_GROUPS, TUMOUR_GROUPS, Annotation, AnnotationSet
from napari_metastasis.annotations.rasterizer import covered, fill_edges, rasterize
from napari_metastasis.annotations.store import ChangedBeneathError, CorrectionStore
from napari_metastasis.annotations.tumour_value import detect_tumour_value, mask_value, tumour_pixels

__all__ = [
    "EXCLUSION_GROUPS",
    "MITOSIS",
    "NOT_A_MITOSIS",
    "TUMOUR_GROUPS",
    "Annotation",
    "AnnotationSet",
    "ChangedBeneathError",
    "Correction",
    "CorrectionStore",
    "Corrections",
    "CorrectionsFile",
    "Finding",
    "History",
    "HotSpot",
    "MaskFile",
    "MaskImage",
    "MitosisPoints",
    "PointSet",
    "add_points",
    "annotations_of_corrections",
    "corrections_of",
    "corrections_of_points",
    "covered",
    "decide_point",
    "detect_tumour_value",
    "fill_edges",
    "hot_spot",
    "mask_downsample",
    "mask_value",
    "mitosis_points",
    "rasterize",
    "read_asap_xml",
    "read_corrections",
    "read_dsa_json",
    "read_geojson",
    "read_mask",
    "read_points",
    "tumour_pixels",
    "write_asap_xml",
    "write_corrections",
    "write_dsa_json",
]
