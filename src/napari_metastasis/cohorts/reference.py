"""Where the tumour of a slide is, asked at any small window: of outlines and of masks alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_metastasis.annotations import AnnotationSet, MaskFile, mask_downsample, tumour_pixels
from napari_metastasis.annotations.outline_index import OutlineIndex
from napari_metastasis.cohorts.annotation_files import (
    Areas,
    geojson_corner,
    open_masks,
    read_areas,
    tumour_value_in,
)
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size, SummedArea

__all__ = [
    "CoarseReference",
    "MaskReference",
    "NoTumour",
    "OutlineReference",
    "TumourReference",
    "open_reference",
    "reference_of",
    "tumour_value_of",
]

BoolArray = npt.NDArray[np.bool_]

#: Mask pixels along a coarse cell that are enough to see what it holds: finer levels cost four times as much each.
_MASK_PX_PER_CELL = 8
#: Mask pixels of one strip while a mask is looked through: they and their running sums take some 100 MB.
_STRIP_PX = 1 << 23


@dataclass(frozen=True, slots=True, eq=False)
class CoarseReference:
    """What the cells of a grid hold.

    Attributes
    ----------
    may_hold
        (rows, columns) bool: true wherever there is any tumour, and in some cells beside it.
    full
        (rows, columns) bool: true only where all is tumour.
    """

    may_hold: BoolArray
    full: BoolArray


class TumourReference(Protocol):
    """Where the tumour of one slide is. Picklable."""

    def over(self, frame: ModelFrame, region: Region) -> BoolArray:
        """Return which model pixels' centres lie in tumour, (rows, columns); the region may reach past the slide."""
        ...

    def over_cells(self, grid: HeatmapFrame) -> CoarseReference:
        """Return what the cells of a grid hold, without drawing the slide."""
        ...

    @property
    def none(self) -> bool:
        """Return whether there surely is no tumour."""
        ...

    @property
    def normal(self) -> OutlineIndex:
        """Return what is outlined as normal tissue."""
        ...

    @property
    def ignored(self) -> OutlineIndex:
        """Return what is outlined as to be ignored."""
        ...

    def close(self) -> None:
        """Close the file that is asked; the next question opens it again."""


_NO_OUTLINES = OutlineIndex(())


class NoTumour:
    """A normal slide."""

    none = True
    normal = ignored = _NO_OUTLINES

    def over(self, frame: ModelFrame, region: Region) -> BoolArray:
        """Return nothing."""
        del frame
        return np.zeros(region.size.shape, dtype=bool)

    def over_cells(self, grid: HeatmapFrame) -> CoarseReference:
        """Return nothing."""
        nothing = np.zeros(grid.cells.shape, dtype=bool)
        return CoarseReference(nothing, nothing)

    def close(self) -> None:
        """Nothing is open."""


class OutlineReference:
    """Tumour inside outlines.

    Parameters
    ----------
    annotations
        Of the slide.
    """

    def __init__(self, annotations: AnnotationSet) -> None:
        self.index = OutlineIndex(annotations.tumour)
        self.normal, self.ignored = OutlineIndex(annotations.normal), OutlineIndex(annotations.ignored)

    @property
    def none(self) -> bool:
        """Return whether nothing is outlined as tumour."""
        return self.index.empty

    def over(self, frame: ModelFrame, region: Region) -> BoolArray:
        """Return which model pixels' centres lie in tumour."""
        return self.index.over(frame, region)

    def over_cells(self, grid: HeatmapFrame) -> CoarseReference:
        """Return what the cells of a grid hold."""
        return CoarseReference(*self.index.over_cells(grid))

    def close(self) -> None:
        """Nothing is open."""


class MaskReference:
    """Tumour as a mask has it.

    Parameters
    ----------
    mask
        Of the slide; it may be coarser.
    slide
        Size of level 0.
    tumour_value
        The class that means tumour, from :func:`~napari_metastasis.annotations.detect_tumour_value`.

    Raises
    ------
    AnnotationError
        If the mask is not of the slide's shape.
    """

    normal = ignored = _NO_OUTLINES

    def __init__(self, mask: MaskFile, *, slide: Size, tumour_value: int) -> None:
        downsample = mask_downsample(mask.size, slide)
        if downsample is None:
            raise AnnotationError(
                f"expected a mask of the slide's shape, {slide.width} x {slide.height} px or a fraction of it, got "
                f"{mask.size.width} x {mask.size.height} px in {mask.path}; choose the slide's own mask"
            )
        self._mask = mask
        self._downsample = downsample
        self._tumour_value = tumour_value
        self._values = mask.values()

    @property
    def none(self) -> bool:
        """Return whether no pixel is tumour, as far as a coarse level shows."""
        values = np.array(sorted(self._values), dtype=np.uint8)
        return not bool(tumour_pixels(values, self._values, self._tumour_value).any())

    def over(self, frame: ModelFrame, region: Region) -> BoolArray:
        """Return which model pixels' centres lie in tumour: the finest mask pixel under each says so."""
        columns = self._under(region.x, region.width, frame.scale)
        rows = self._under(region.y, region.height, frame.scale)
        if not len(columns) or not len(rows):
            return np.zeros(region.size.shape, dtype=bool)
        box = Region(columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        return self._tumour(self._mask.read(box))[np.ix_(rows - rows[0], columns - columns[0])]

    def over_cells(self, grid: HeatmapFrame) -> CoarseReference:
        """Return what the cells of a grid hold, from a level with a few mask pixels to each cell."""
        fine = [
            level
            for level in range(len(self._mask.levels))
            if grid.cell_px / (self._downsample * self._mask.downsample(level)) >= _MASK_PX_PER_CELL
        ]
        level = fine[-1] if fine else 0
        step = self._downsample * self._mask.downsample(level)
        columns = self._cell_spans(grid, step, along_x=True)
        rows = self._cell_spans(grid, step, along_x=False)
        may_hold, full = (np.zeros(grid.cells.shape, dtype=bool) for _ in range(2))
        # Each strip holds whole rows of cells, as many as fit into memory.
        width = int(columns[-1, 1]) if len(columns) else 0
        together = max(1, int(_STRIP_PX / max(1, width * math.ceil(grid.cell_px / step))))
        for first in range(0, len(rows), together):
            part = rows[first : first + together]
            top, bottom = int(part[0, 0]), int(part[-1, 1])
            tumour = self._tumour(self._mask.read(Region(0, top, width, bottom - top), level))
            if tumour.any():
                count = SummedArea(tumour).count_grid(part - top, columns)
                area = np.outer(part[:, 1] - part[:, 0], columns[:, 1] - columns[:, 0])
                may_hold[first : first + together] = count > 0
                full[first : first + together] = count == area
        if level:
            # Coarse levels are thinned out: what lies between their pixels may reach into the next cell.
            cross = np.ones((3, 3), dtype=bool)
            may_hold, full = ndimage.binary_dilation(may_hold, cross), ndimage.binary_erosion(full, cross)
        return CoarseReference(may_hold, full)

    def close(self) -> None:
        """Close the mask; the next question opens it again."""
        self._mask.close()

    def _tumour(self, pixels: npt.NDArray[np.uint8]) -> BoolArray:
        return tumour_pixels(pixels, self._values, self._tumour_value)

    def _under(self, first: int, count: int, scale: float) -> npt.NDArray[np.int64]:
        """Return the mask pixel under the centre of each model pixel along one axis."""
        centers = (np.arange(first, first + count) + 0.5) * scale / self._downsample
        return np.floor(centers + 1e-9).astype(np.int64)

    def _cell_spans(self, grid: HeatmapFrame, step: float, *, along_x: bool) -> npt.NDArray[np.int64]:
        """Return the first and the past-the-last mask pixel that touch each cell along one axis, (n, 2)."""
        count = grid.cells.width if along_x else grid.cells.height
        corner = grid.cell_corner(0, 0)
        low = ((corner.x if along_x else corner.y) + np.arange(count) * grid.cell_px) / step
        first = np.floor(low + 1e-9).astype(np.int64)
        last = np.ceil(low + grid.cell_px / step - 1e-9).astype(np.int64)
        return np.stack([first, np.maximum(last, first + 1)], axis=1)


def open_reference(
    annotation: Path | None, *, slide: Size, bounds: Region | None, tumour_value: int
) -> TumourReference:
    """Return where the tumour of a slide is.

    Parameters
    ----------
    annotation
        Outlines or a mask; ``None`` for a normal slide.
    slide
        Size of level 0.
    bounds
        The part of level 0 that was scanned, which GeoJSON counts from; ``None`` where all of it was.
    tumour_value
        The class that means tumour in masks of small numbers.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or is a mask of another slide.
    """
    areas = None if annotation is None else read_areas(annotation, corner=geojson_corner(bounds))
    return reference_of(areas, slide=slide, tumour_value=tumour_value)


def reference_of(areas: Areas | None, *, slide: Size, tumour_value: int) -> TumourReference:
    """Return where the tumour of a slide is, from what its annotation file says; see :func:`open_reference`."""
    if areas is None:
        return NoTumour()
    if isinstance(areas, MaskFile):
        return MaskReference(areas, slide=slide, tumour_value=tumour_value)
    return OutlineReference(areas)


def tumour_value_of(slides: Iterable[CohortSlide]) -> int:
    """Return the value that means tumour in the masks of small numbers of a whole cohort.

    See :func:`~napari_metastasis.cohorts.annotation_files.tumour_value_in`.
    """
    return tumour_value_in(open_masks(slide.annotation for slide in slides))
