"""Which pieces of a slide a scan reads, and in which order. Pure: nothing is read here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import RegionError, SettingsError
from napari_metastasis.geometry import HeatmapFrame, Point, Region, sparse_zeros

__all__ = ["BoolArray", "Roi", "ScanPlan", "Wanted", "nearest_first", "plan_scan", "roi_cells"]

BoolArray = npt.NDArray[np.bool_]

#: Side of the window that a scan begins with, in model pixels, where windows are larger: someone waits for the first
#: answer, and a piece of this size takes a tenth of a second on a processor.
_FIRST_ROI_PX = 400


@dataclass(frozen=True, slots=True)
class Roi:
    """One piece of a scan: what it reads, and the cells that it alone writes.

    Attributes
    ----------
    read
        Window in model pixels; it may reach past the slide, where the reader answers white.
    write
        Cells that this piece alone writes; all of them lie on the map.
    block
        Cells along a side of the squares that are read whole, since their cells share features; else 1.
    """

    read: Region
    write: Region
    block: int = 1

    @classmethod
    def of(cls, frame: HeatmapFrame, cells: Region, block: int = 1) -> Roi:
        """Return the piece that writes ``cells``; it reads whole blocks, even past the map's edge."""
        whole = Region(cells.x, cells.y, -(-cells.width // block) * block, -(-cells.height // block) * block)
        return cls(read=frame.read_window(whole), write=cells, block=block)

    @property
    def is_single(self) -> bool:
        """Return whether this is one block, which cannot be split."""
        return self.write.width <= self.block and self.write.height <= self.block

    def halves(self, frame: HeatmapFrame) -> tuple[Roi, ...]:
        """Return the up to four pieces that cover the same cells with windows of half the side."""
        cells = self.write
        left, top = (min(side, -(-side // (2 * self.block)) * self.block) for side in (cells.width, cells.height))
        parts = (
            Region(cells.x, cells.y, left, top),
            Region(cells.x + left, cells.y, cells.width - left, top),
            Region(cells.x, cells.y + top, left, cells.height - top),
            Region(cells.x + left, cells.y + top, cells.width - left, cells.height - top),
        )
        return tuple(Roi.of(frame, part, self.block) for part in parts if not part.is_empty)


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """A scan, decided but not begun.

    Attributes
    ----------
    frame
        Where the cells lie.
    rois
        In the order in which they are to be scanned. No cell is written by two of them.
    needed
        bool, (rows, columns) of the whole map: cells that are answered. An ROI's other cells stay as they are, so that
        the map does not depend on where ROIs lie.
    kept
        bool, (rows, columns) of the whole map: those of them whose answers are stored. Of the others only the features
        are, which passes read around the region.
    cells_wanted
        Cells whose answers were asked for.
    cells_without_tissue
        Those of them that are skipped because they show glass.
    cells_done
        Those of them that an earlier scan has answered.
    """

    frame: HeatmapFrame
    rois: tuple[Roi, ...]
    needed: BoolArray = field(repr=False, compare=False)
    kept: BoolArray = field(repr=False, compare=False)
    cells_wanted: int
    cells_without_tissue: int
    cells_done: int

    @property
    def model_px(self) -> int:
        """Return the model pixels that the ROIs answer for: what progress counts."""
        return sum(roi.write.size.area for roi in self.rois) * self.frame.stride_px**2


def roi_cells(frame: HeatmapFrame, roi_px: int, block: int = 1) -> int:
    """Return the cells along a side of the largest window of at most ``roi_px`` model pixels; at least one block."""
    cells = (roi_px - frame.patch_px) // frame.stride_px + 1
    return max(block, cells // block * block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a scan, in cells of its map.

    Attributes
    ----------
    cells
        Those that the network looks at.
    keep
        Those of them whose answers are stored; ``None`` for all. Of the others only the features are.
    tissue
        bool, (rows, columns) of the whole map: cells that show tissue; ``None`` takes them all.
    done
        bool, (rows, columns) of the whole map: cells answered already; ``None`` where none is.
    focus
        Level-0 location to begin at, such as the centre of the view; ``None`` begins at the middle of ``cells``.
    """

    cells: Region
    keep: Region | None = None
    tissue: BoolArray | None = field(default=None, repr=False, compare=False)
    done: BoolArray | None = field(default=None, repr=False, compare=False)
    focus: Point | None = None

    def check(self, frame: HeatmapFrame) -> None:
        """Refuse what does not lie on a map.

        Raises
        ------
        RegionError
            If the cells do not.
        SettingsError
            If ``tissue`` or ``done`` do not have the map's shape.
        """
        slide = Region.of(frame.cells)
        if self.cells.is_empty or not slide.contains(self.cells):
            raise RegionError(f"expected cells on the heatmap ({slide}), got {self.cells}; choose a region inside")
        for name, mask in (("tissue", self.tissue), ("done", self.done)):
            if mask is not None and mask.shape != frame.cells.shape:
                raise SettingsError(
                    f"expected a {name} mask of {frame.cells.shape} cells, got {mask.shape}; make it for this heatmap"
                )

    def showing(self, frame: HeatmapFrame, cells: Region) -> BoolArray:
        """Return which cells of a region show tissue: bool, (rows, columns) of the whole map."""
        shows = sparse_zeros(frame.cells.shape)
        np.copyto(shows[cells.slices], True, where=True if self.tissue is None else self.tissue[cells.slices])
        return shows

    def left(self, shows: BoolArray) -> BoolArray:
        """Return which of some cells, bool (rows, columns), are not answered yet; the array is changed."""
        if self.done is not None:
            np.copyto(shows, False, where=self.done)
        return shows

    def center(self, frame: HeatmapFrame) -> Point:
        """Return where to begin, in the coordinates of :attr:`Region.center`, where a cell spans ``c .. c + 1``."""
        if self.focus is None:
            return self.cells.center
        cell = frame.cell_at(self.focus)
        return Point(cell.x + 0.5, cell.y + 0.5)


def nearest_first(center: Point) -> Callable[[Region], tuple[float, int, int]]:
    """Return a key that sorts regions by their distance from a location, and equally near ones by row and column."""
    return lambda region: (region.center.distance(center), region.y, region.x)


def plan_scan(frame: HeatmapFrame, wanted: Wanted, *, roi_px: int, block: int = 1) -> ScanPlan:
    """Return the ROIs that answer for every wanted cell that shows tissue and is not answered yet.

    The ROIs lie on a grid that begins where the tissue does, so that windows, and the memory that they take, do not
    depend on the glass around it; each is trimmed to the cells of its square that are needed. The first is split around
    the focus, so that its first piece is answered soon.

    Parameters
    ----------
    frame
        Where the cells lie.
    wanted
        Which cells are asked for.
    roi_px
        Side of the largest read window, in model pixels. It bounds memory and changes no answer.
    block
        Cells along a side of the squares that no ROI splits, since their features are averaged.

    Raises
    ------
    RegionError, SettingsError
        As :meth:`Wanted.check` does.
    """
    wanted.check(frame)
    needed = wanted.showing(frame, wanted.cells)
    # Before what is answered is left out: a scan that goes on has the grid that it began with.
    extent = _bounding(needed, wanted.cells, block)
    asked = wanted.cells if wanted.keep is None else wanted.keep
    cells_with_tissue = int(np.count_nonzero(needed[asked.slices]))
    needed = wanted.left(needed)
    kept = sparse_zeros(needed.shape)
    np.copyto(kept[asked.slices], True, where=needed[asked.slices])
    by_distance = nearest_first(wanted.center(frame))
    side = roi_cells(frame, roi_px, block)
    parts = (part.shifted(extent.x, extent.y) for part in Region.of(extent.size).split(side))
    trimmed = (_bounding(needed, part, block) for part in parts)
    rois = [Roi.of(frame, cells, block) for cells in trimmed if not cells.is_empty]

    def nearest(roi: Roi) -> tuple[float, int, int]:
        return by_distance(roi.write)

    if rois:
        first = min(rois, key=nearest)
        rois.remove(first)
        rois.extend(_split(frame, first, needed, nearest))
    return ScanPlan(
        frame=frame,
        rois=tuple(sorted(rois, key=nearest)),
        needed=needed,
        kept=kept,
        cells_wanted=asked.size.area,
        cells_without_tissue=asked.size.area - cells_with_tissue,
        cells_done=cells_with_tissue - int(np.count_nonzero(kept)),
    )


def _split(
    frame: HeatmapFrame, first: Roi, needed: BoolArray, nearest: Callable[[Roi], tuple[float, int, int]]
) -> list[Roi]:
    """Return the pieces of the first ROI, whose nearest quarter is quartered again until it is small."""
    pieces = [first]
    while max(first.read.width, first.read.height) > _FIRST_ROI_PX and not first.is_single:
        pieces.remove(first)
        trimmed = (_bounding(needed, half.write, first.block) for half in first.halves(frame))
        pieces.extend(Roi.of(frame, cells, first.block) for cells in trimmed if not cells.is_empty)
        first = min(pieces, key=nearest)
    return pieces


def _bounding(needed: BoolArray, part: Region, block: int) -> Region:
    """Return the smallest rectangle of blocks that holds every needed cell of ``part``; empty where there is none."""
    inside = needed[part.slices]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if rows.size == 0:
        return Region(part.x, part.y, 0, 0)
    x, y = ((first + int(found[0])) // block * block for first, found in ((part.x, columns), (part.y, rows)))
    right, bottom = (
        min(size, -(-(first + int(found[-1]) + 1) // block) * block)
        for first, found, size in ((part.x, columns, needed.shape[1]), (part.y, rows, needed.shape[0]))
    )
    return Region(x, y, right - x, bottom - y)
