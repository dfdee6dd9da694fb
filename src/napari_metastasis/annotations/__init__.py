"""Outlines that a person drew: polygons in level-0 pixels, ASAP's XML in and out, masks."""

from __future__ import annotations

from napari_metastasis.annotations._asap import read_asap_xml, write_asap_xml
from napari_metastasis.annotations._polygons import (
    EXCLUSION_GROUPS,
    TUMOUR_GROUPS,
    Annotation,
    AnnotationSet,
    longest_diameter,
)
from napari_metastasis.annotations._rasterize import rasterize

__all__ = [
    "EXCLUSION_GROUPS",
    "TUMOUR_GROUPS",
    "Annotation",
    "AnnotationSet",
    "longest_diameter",
    "rasterize",
    "read_asap_xml",
    "write_asap_xml",
]
