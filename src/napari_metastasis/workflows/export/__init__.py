"""Writes a result for other programs: its lesions as outlines, its answers as a table, all of it for scverse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.storage import check_new
from napari_metastasis.workflows.export.exported import Exported
from napari_metastasis.workflows.export.outlines import write_asap, write_dsa, write_qupath
from napari_metastasis.workflows.export.patches import write_patches
from napari_metastasis.workflows.export.scverse import write_spatialdata
from napari_metastasis.workflows.report import ReportedResult, read_result

__all__ = ["FORMATS", "Exported", "export_result"]


@dataclass(frozen=True, slots=True)
class _Format:
    """How a result is written for a program, and what the file is called unless told otherwise."""

    file: Callable[[ReportedResult], str]
    write: Callable[[Path, ReportedResult], Exported]


#: By what they are called on the command line.
FORMATS: Mapping[str, _Format] = {
    "asap": _Format(lambda _: "lesions.xml", write_asap),
    "dsa": _Format(lambda _: "lesions.dsa.json", write_dsa),
    "geojson": _Format(lambda _: "lesions.geojson", write_qupath),
    "spatialdata": _Format(lambda _: "spatialdata.zarr", write_spatialdata),
    # WSInfer and those that read its results look for the slide's name in this folder.
    "wsinfer": _Format(lambda result: f"model-outputs-csv/{result.slide_name}.csv", write_patches),
}


def export_result(folder: Path, to: str, *, output: Path | None = None, overwrite: bool = False) -> Exported:
    """Write a result folder for another program.

    Parameters
    ----------
    folder
        That ``scan`` wrote.
    to
        Which of :data:`FORMATS`.
    output
        File or folder to write; by default one in the result folder.
    overwrite
        Whether an earlier one is replaced.

    Raises
    ------
    StorageError
        If the folder is no result, the file is there already, or the disk refuses.
    DependencyError
        If the format needs a library that is not installed.
    """
    chosen = FORMATS[to]
    result = read_result(folder)
    path = folder / chosen.file(result) if output is None else output
    check_new(path, overwrite=overwrite)
    return chosen.write(path, result)
