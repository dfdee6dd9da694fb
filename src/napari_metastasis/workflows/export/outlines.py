"""The outlines of lesions as files of other programs: QuPath's GeoJSON, ASAP's XML, DSA's JSON."""

from __future__ import annotations

from pathlib import Path

from napari_metastasis.annotations import AnnotationSet, write_asap_xml, write_dsa_json
from napari_metastasis.lesions import annotations_of
from napari_metastasis.workflows.export.exported import Exported, exported
from napari_metastasis.workflows.report import ReportedLesion, ReportedResult
from napari_metastasis.workflows.report.tables import write_outlines

__all__ = ["outlined", "write_asap", "write_dsa", "write_qupath"]


def outlined(result: ReportedResult) -> list[ReportedLesion]:
    """Return the lesions of a result that have an outline in it."""
    return [lesion for lesion in result.lesions if not lesion.outline_px.is_empty]


def _outlines(result: ReportedResult) -> AnnotationSet:
    return AnnotationSet(tuple(one for lesion in result.lesions for one in annotations_of(lesion)))


def write_asap(path: Path, result: ReportedResult) -> Exported:
    """Write lesions for ASAP."""
    write_asap_xml(path, _outlines(result))
    return exported(path, result, outlined(result))


def write_dsa(path: Path, result: ReportedResult) -> Exported:
    """Write lesions for the Digital Slide Archive."""
    write_dsa_json(path, _outlines(result), name=f"Lesions of {result.slide_name}")
    return exported(path, result, outlined(result))


def write_qupath(path: Path, result: ReportedResult) -> Exported:
    """Write lesions for QuPath, which has points as well."""
    write_outlines(path, result)
    return exported(path, result, [one for one in result.lesions if one.is_point or not one.outline_px.is_empty])
