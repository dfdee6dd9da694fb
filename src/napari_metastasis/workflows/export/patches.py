"""The answers of a scan as WSInfer writes a model's: a row for each patch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.errors import first_line
from napari_metastasis.geometry import CHUNK_CELLS, Region
from napari_metastasis.scanning import MapValues, seen_values
from napari_metastasis.storage import atomic_text
from napari_metastasis.workflows.export.exported import Exported
from napari_metastasis.workflows.report import ReportedResult, result_maps

__all__ = ["write_patches"]


def write_patches(path: Path, result: ReportedResult) -> Exported:
    """Write ``minx,miny,width,height,prob_<class>``, a row for each cell of the scan that has an answer.

    Patches of a dense scan overlap; a row is the square that its answer is drawn in, so that rows lie side by side as
    those of WSInfer do. Numbers are level-0 pixels. The answers are those of the scan, blended with the refined ones as
    they are shown; a segmentation answers for pixels, and is not among them.

    Raises
    ------
    StorageError
        If the heatmap cannot be read, or the file cannot be written; nothing half-written is left.
    """
    own, *others = result_maps(result)
    shares = result.shares
    blended = [(one, shares.get(one.kind.name, 0.0)) for one in others if not one.kind.stands_alone]
    seen = seen_values(own, blended)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_text(path) as file:
        names, tumour = _classes(result.record)
        columns = ("minx", "miny", "width", "height", *(f"prob_{name}" for name in names))
        file.write(",".join(columns) + "\n")
        for cells in Region.of(seen.frame.cells).split(CHUNK_CELLS):
            file.writelines(_rows(seen, cells, len(names), tumour))
    told = [] if result.coverage.whole else [f"{result.coverage.text}: what has no row was not looked at, or is glass"]
    return Exported(path, None, told=(*told, *result.notes))


def _classes(record: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the classes that columns are written for, and which of them is tumour: of several others, it alone."""
    model = record["model"]
    names = [first_line(str(name)).replace(",", " ") for name in model.get("classes", ("normal", "tumour"))]
    tumour = int(model.get("tumour_class", 1))
    return (tuple(names), tumour) if len(names) == 2 else ((names[tumour],), 0)


def _rows(seen: MapValues, cells: Region, columns: int, tumour: int) -> list[str]:
    """Return the rows of some cells, from left to right and from top to bottom."""
    values = seen.values[cells.slices]
    rows, places = np.nonzero(~np.isnan(values))
    corner, side = seen.frame.cell_corner(0, 0), seen.frame.cell_px
    # Both edges are rounded, so that neighbours share one.
    left, top = (
        np.rint(first + side * np.arange(start, stop + 1)).astype(np.int64)
        for first, start, stop in ((corner.x, cells.x, cells.right), (corner.y, cells.y, cells.bottom))
    )
    found = values[rows, places]
    shown = [found] if columns == 1 else [np.float32(1) - found, found][:: 1 if tumour else -1]
    table = (left[places], top[rows], np.diff(left)[places], np.diff(top)[rows], *shown)
    return [
        f"{x},{y},{wide},{high},{','.join(f'{value:.6g}' for value in answers)}\n"
        for x, y, wide, high, *answers in zip(*(column.tolist() for column in table), strict=True)
    ]
