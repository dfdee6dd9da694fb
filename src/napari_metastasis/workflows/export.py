"""Writes the lesions of a result for other programs: QuPath's GeoJSON, ASAP's XML, DSA's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.annotations import AnnotationSet, write_asap_xml, write_dsa_json
from napari_metastasis.lesions import annotations_of
from napari_metastasis.storage import check_new
from napari_metastasis.workflows.report import ReportedResult, read_result
from napari_metastasis.workflows.report.tables import write_outlines

__all__ = ["FORMATS", "ExportedLesions", "export_lesions"]


def _outlines(result: ReportedResult) -> AnnotationSet:
    return AnnotationSet(tuple(one for lesion in result.lesions for one in annotations_of(lesion)))


def _asap(path: Path, result: ReportedResult) -> None:
    write_asap_xml(path, _outlines(result))


def _dsa(path: Path, result: ReportedResult) -> None:
    write_dsa_json(path, _outlines(result), name=f"Lesions of {result.slide_name}")


@dataclass(frozen=True, slots=True)
class _Format:
    """How lesions are written for a program, and what the file is called unless told otherwise."""

    file: str
    write: Callable[[Path, ReportedResult], None]


#: By what they are called on the command line.
FORMATS: Mapping[str, _Format] = {
    "asap": _Format("lesions.xml", _asap),
    "dsa": _Format("lesions.dsa.json", _dsa),
    "geojson": _Format("lesions.geojson", write_outlines),
}


@dataclass(frozen=True, slots=True)
class ExportedLesions:
    """Lesions that were written.

    Attributes
    ----------
    path
        Where they are.
    lesions
        How many.
    without_outline
        Numbers of those that have no outline in the result, and are left out: also of points that people set, which
        GeoJSON alone has a word for.
    told
        What has to be said of what people made of them, a line each.
    """

    path: Path
    lesions: int
    without_outline: tuple[str, ...]
    told: tuple[str, ...] = ()


def export_lesions(folder: Path, to: str, *, output: Path | None = None, overwrite: bool = False) -> ExportedLesions:
    """Write the lesions of a result folder.

    Parameters
    ----------
    folder
        That ``scan`` wrote.
    to
        Which of :data:`FORMATS`.
    output
        File to write; by default one in the result folder.
    overwrite
        Whether an earlier file is replaced.

    Raises
    ------
    StorageError
        If the folder is no result, the file is there already, or the disk refuses.
    """
    chosen = FORMATS[to]
    path = folder / chosen.file if output is None else output
    result = read_result(folder)
    check_new(path, overwrite=overwrite)
    chosen.write(path, result)
    without = tuple(
        lesion.number
        for lesion in result.lesions
        if lesion.outline_px.is_empty and not (lesion.is_point and to == "geojson")
    )
    return ExportedLesions(path, len(result.lesions) - len(without), without, result.told)
