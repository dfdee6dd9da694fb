"""The mitoses of a scan: read off their map, written to the result folder, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region
from napari_metastasis.lesions import LesionIndex, Mitoses, mitoses_at, write_mitoses_csv, write_mitoses_geojson
from napari_metastasis.scanning import MITOSES, AnsweredMap, Coverage, answerable_cells
from napari_metastasis.settings import MitosisSettings
from napari_metastasis.slides import TissueMask
from napari_metastasis.workflows.scan.prepared import PreparedScan

__all__ = ["mitoses_of", "mitosis_index", "searched_mm2", "write_mitoses"]


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


def mitoses_of(prepared: PreparedScan, maps: Sequence[AnsweredMap]) -> Mitoses | None:
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
    return mitoses_at(
        index,
        index.settings.threshold,
        mpp=prepared.slide.mpp,
        searched_mm2=searched,
        tissue_mm2=tissue,
        settings=settings.hot_spot,
    )


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
    write_mitoses_geojson(folder / "mitoses.geojson", mitoses, slide=known_as, bounds=bounds)
    write_mitoses_csv(folder / "mitoses.csv", mitoses)
