"""The mitoses of a scan: read off their map, written to the result folder, and read back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_metastasis.annotations import Corrections, CorrectionStore
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region
from napari_metastasis.lesions import (
    LesionIndex,
    Mitoses,
    found_mitoses,
    mitoses_at,
    mitoses_table,
    read_found_mitoses,
    write_mitoses_csv,
    write_mitoses_geojson,
)
from napari_metastasis.scanning import MITOSES, AnsweredMap, Coverage, answerable_cells
from napari_metastasis.settings import HotSpotSettings, MitosisSettings
from napari_metastasis.slides import TissueMask
from napari_metastasis.storage import storage_errors
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.result_folder import corrections_folder

__all__ = [
    "FoundMitoses",
    "mitoses_of",
    "mitosis_index",
    "read_mitoses",
    "searched_mm2",
    "update_mitoses",
    "write_mitoses",
]

#: The files of a result.
_TABLE, _POINTS = "mitoses.csv", "mitoses.geojson"


@dataclass(frozen=True, slots=True)
class FoundMitoses:
    """The mitoses of a scan.

    Attributes
    ----------
    own
        What the model found.
    reviewed
        The same, and what people said of it.
    index
        Made of their map: what lies at any other threshold.
    """

    own: Mitoses
    reviewed: Mitoses
    index: LesionIndex = field(repr=False)


def mitosis_index(cells: ChunkedCells, frame: HeatmapFrame, settings: MitosisSettings, threshold: float) -> LesionIndex:
    """Return the peaks of a map of mitoses, at every threshold from the floor up.

    Parameters
    ----------
    cells, frame
        The map.
    settings
        How mitoses are counted.
    threshold
        The model's own.
    """
    return LesionIndex(cells, frame, settings.detection(threshold), map=MITOSES.name)


def searched_mm2(cells: ChunkedCells, frame: HeatmapFrame, tissue: TissueMask) -> tuple[float, float]:
    """Return the tissue that a map answers for, and all of the slide's, in mm²."""
    coverage = Coverage.of(cells, answerable_cells(tissue, frame, cells))
    cell_mm2 = (frame.cell_um / 1000) ** 2
    return coverage.answered_cells * cell_mm2, coverage.tissue_cells * cell_mm2


def mitoses_of(prepared: PreparedScan, maps: Sequence[AnsweredMap]) -> FoundMitoses | None:
    """Return the mitoses that a scan found; ``None`` where it did not look for them.

    Parameters
    ----------
    prepared
        The scan, at its end or stopped.
    maps
        Its maps.
    """
    found = next((one for one in maps if one.kind.name == MITOSES.name), None)
    settings = next(
        (one.settings for one in prepared.job.wanted_passes if isinstance(one.settings, MitosisSettings)), None
    )
    if found is None or settings is None:
        return None
    own = prepared.models.others["mitosis"].spec.threshold
    index = mitosis_index(found.cells, found.frame, settings, own)
    searched, tissue = searched_mm2(found.cells, found.frame, prepared.tissue)
    slide = prepared.slide
    mitoses = mitoses_at(
        index,
        index.settings.threshold,
        mpp=slide.mpp,
        searched_mm2=searched,
        tissue_mm2=tissue,
        settings=settings.hot_spot,
    )
    reviewed = _reviewed(mitoses, prepared.folder, mpp=slide.mpp, bounds=slide.bounds, settings=settings.hot_spot)
    return FoundMitoses(mitoses, reviewed, index)


def _reviewed(own: Mitoses, folder: Path, *, mpp: float, bounds: Region | None, settings: HotSpotSettings) -> Mitoses:
    """Return mitoses with what the corrections of their slide say; a damaged file of these stops nothing."""
    try:
        corrections = CorrectionStore(corrections_folder(folder), bounds=bounds).read()
    except (AnnotationError, StorageError):
        return own.reviewed(Corrections(), mpp=mpp, settings=settings).unread()
    return own.reviewed(corrections, mpp=mpp, settings=settings)


def read_mitoses(folder: Path, record: Mapping[str, Any]) -> Mitoses | None:
    """Return the mitoses of a result folder with what people say of them now; ``None`` where it has none.

    Parameters
    ----------
    folder
        The result folder.
    record
        Its ``run.json``.

    Raises
    ------
    StorageError
        If the table or the record is damaged.
    """
    known = record.get("mitoses")
    if not isinstance(known, dict) or not os.path.exists(folder / _TABLE):
        return None
    xy, probability = read_found_mitoses(folder / _TABLE)
    try:
        slide, spot = record["slide"], known["hot_spot"] or {}
        bounds = None if slide.get("bounds") is None else Region(*map(int, slide["bounds"]))
        mpp = float(slide["mpp"])
        # Where the model found none, nothing says in which area they would have been counted.
        settings = HotSpotSettings(**{name: spot[name] for name in ("area_mm2", "shape") if name in spot})
        own = found_mitoses(
            xy,
            probability,
            threshold=float(known["threshold"]),
            searched_mm2=float(known["searched_mm2"]),
            tissue_mm2=float(known["tissue_mm2"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            f"expected how mitoses were counted in the record of {folder}, got something else "
            f"({type(error).__name__}: {error}); scan the slide again"
        ) from error
    return _reviewed(own, folder, mpp=mpp, bounds=bounds, settings=settings)


def update_mitoses(folder: Path, mitoses: Mitoses, *, known_as: str, bounds: Region | None) -> bool:
    """Write the mitoses of a result anew where its table says something else, and return whether.

    Parameters
    ----------
    folder
        The result folder.
    mitoses
        From :func:`read_mitoses`.
    known_as, bounds
        As :func:`write_mitoses` takes them.

    Raises
    ------
    StorageError
        If the table cannot be read, or the disk refuses.
    """
    with storage_errors(folder / _TABLE):
        written = (folder / _TABLE).read_bytes()
    if written == mitoses_table(mitoses).encode():
        return False
    write_mitoses(folder, mitoses, known_as=known_as, bounds=bounds)
    return True


def write_mitoses(folder: Path, mitoses: Mitoses, *, known_as: str, bounds: Region | None) -> None:
    """Write ``mitoses.geojson`` and ``mitoses.csv``, in :func:`~.result_files.one_writer`.

    Parameters
    ----------
    folder
        The result folder.
    mitoses
        What was found.
    known_as
        By what the scan knows the slide.
    bounds
        The slide's bounds, if it states any.

    Raises
    ------
    StorageError
        If the disk refuses; each file is whole or as it was.
    """
    # The table last: what it says is what is compared.
    write_mitoses_geojson(folder / _POINTS, mitoses, slide=known_as, bounds=bounds)
    write_mitoses_csv(folder / _TABLE, mitoses)
