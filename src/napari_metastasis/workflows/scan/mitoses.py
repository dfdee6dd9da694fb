"""The mitoses of a scan, read off their map, with what people said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.annotations import Corrections, CorrectionStore
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, Region
from napari_metastasis.lesions import (
    Mitoses,
    SearchedTissue,
    find_points,
    found_mitoses,
)
from napari_metastasis.scanning import MITOSES, AnsweredMap, answerable_cells, looked_at
from napari_metastasis.settings import MitosisSettings
from napari_metastasis.workflows.scan.result_folder import corrections_folder

if TYPE_CHECKING:
    from napari_metastasis.slides import TissueMask
    from napari_metastasis.workflows.scan.prepared import PreparedScan

__all__ = [
    "FoundMitoses",
    "MitosisReading",
    "mitoses_of",
    "mitosis_threshold",
    "read_mitoses",
    "said_in",
    "with_reviews",
]


@dataclass(frozen=True, slots=True, eq=False)
class MitosisReading:
    """A map of mitoses, prepared to be read at every threshold from the floor up.

    Attributes
    ----------
    xy
        (n, 2) float64, all points from the floor up as (x, y) in level-0 pixels, the surest first.
    probability
        (n,) float32.
    floor
        The lowest threshold.
    tissue_mm2
        All tissue of the slide.
    searched
        Where of that was looked at.
    """

    xy: NDArray[np.float64]
    probability: NDArray[np.float32]
    floor: float
    tissue_mm2: float
    searched: SearchedTissue

    def points_at(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return places and probabilities of the points at a threshold from the floor up; see the attributes."""
        # As they are stored.
        count = int(np.count_nonzero(self.probability >= np.float32(threshold)))
        return self.xy[:count], self.probability[:count]

    def at(
        self, threshold: float, settings: MitosisSettings, mpp: float, corrections: Corrections | None = None
    ) -> Mitoses:
        """Return the mitoses at a threshold, with what people say of them; one below the floor is the floor."""
        threshold = max(threshold, self.floor)
        return found_mitoses(
            *self.points_at(threshold),
            threshold=float(threshold),
            mpp=mpp,
            searched_mm2=self.searched.mm2,
            tissue_mm2=self.tissue_mm2,
            settings=settings.hot_spot,
            searched=self.searched,
            corrections=corrections,
        )


def read_mitoses(
    cells: ChunkedCells, frame: HeatmapFrame, tissue: TissueMask, settings: MitosisSettings, threshold: float
) -> MitosisReading:
    """Return a map of mitoses, prepared to be read.

    Parameters
    ----------
    cells, frame
        The map.
    tissue
        Where the slide holds tissue.
    settings
        How mitoses are counted.
    threshold
        The lowest that has to be reached, if it is lower than the usual floor.
    """
    floor = settings.floor(threshold)
    rows, columns, sure = find_points(cells, floor=floor, radius=settings.mitosis_radius_um / frame.cell_um)
    first = frame.cell_center(0, 0)
    xy = np.stack([first.x + columns * frame.cell_px, first.y + rows * frame.cell_px], axis=1)
    asked = answerable_cells(tissue, frame, cells)
    searched = SearchedTissue.of(looked_at(asked, cells, frame), frame)
    # In the margin around what was looked at there are answers, and points that were not asked for. A middle may lie
    # on glass, beside the tissue that was.
    in_tissue = asked[np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)]
    kept = searched.holds(xy) | ~in_tissue
    return MitosisReading(
        xy=xy[kept],
        probability=sure[kept],
        floor=floor,
        tissue_mm2=int(np.count_nonzero(asked)) * searched.cell_mm2,
        searched=searched,
    )


def mitosis_threshold(prepared: PreparedScan) -> float:
    """Return from which probability mitoses count in a scan: what was asked for, or the model's own; 0 without them."""
    settings = prepared.job.settings_of(MitosisSettings)
    if settings is None:
        return 0.0
    own: float = prepared.models.others["mitosis"].spec.threshold
    return settings.mitosis_threshold or own


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
    settings = prepared.job.settings_of(MitosisSettings)
    if found is None or settings is None:
        return None
    threshold, slide = mitosis_threshold(prepared), prepared.slide
    reading = read_mitoses(found.cells, found.frame, prepared.tissue, settings, threshold)
    said = said_in(prepared.folder, slide.bounds)
    mitoses = reading.at(threshold, settings, slide.mpp, said)
    return FoundMitoses(mitoses.unread() if said is None else mitoses, reading)


@dataclass(frozen=True, slots=True, eq=False)
class FoundMitoses:
    """The mitoses of a scan.

    Attributes
    ----------
    mitoses
        With what people said of them.
    reading
        What lies at any other threshold.
    """

    mitoses: Mitoses
    reading: MitosisReading


def with_reviews(mitoses: Mitoses, folder: Path, *, bounds: Region | None) -> Mitoses:
    """Return mitoses with what the corrections of their slide say; a damaged file of these is told, and stops nothing.

    Parameters
    ----------
    mitoses
        What a model found; what was said of it before is forgotten.
    folder
        The result folder.
    bounds
        The slide's bounds, if it states any.
    """
    said = said_in(folder, bounds)
    return mitoses.unread() if said is None else mitoses.reviewed(said)


def said_in(folder: Path, bounds: Region | None) -> Corrections | None:
    """Return the corrections of a result's slide; ``None`` where they cannot be read.

    Parameters
    ----------
    folder
        The result folder.
    bounds
        The slide's bounds, if it states any.
    """
    try:
        return CorrectionStore(corrections_folder(folder), bounds=bounds).read()
    except (AnnotationError, StorageError):
        return None
