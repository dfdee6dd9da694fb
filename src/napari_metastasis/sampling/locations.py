"""Where on a slide patches of each class can be taken: found once at low power, drawn at random, settled exactly.

A location is drawn from the coarse cells that may hold its class, and checked against the reference at model
resolution; where it is of another class it is drawn again. So every location of a class is as likely as any other,
however coarse the cells are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.settings import SamplingSettings, TissueSettings
from napari_metastasis.slides import Slide, tissue_mask

__all__ = ["CellSet", "PatchPixels", "PatchShape", "SlideLocations", "find_locations"]

BoolArray = npt.NDArray[np.bool_]

#: Side of a coarse cell: two pixels of the low-power image that tissue is found on.
_CELL_UM = 32.0
#: Draws before a slide is said to have no location of a class. Of the smallest lesion, a single pixel, one in 27 does.
_MAX_DRAWS = 1000
#: Pictures are regions that somebody cut out of tissue: without glass to compare with, tissue cannot be told.
_PICTURES = frozenset({".png", ".jpg", ".jpeg"})


class PatchPixels(Protocol):
    """Resolution and size of the patches that are drawn: of any contract of a model that reads pixels."""

    @property
    def mpp(self) -> float:
        """Return micrometres per pixel."""
        ...

    @property
    def patch_px(self) -> int:
        """Return the side of the square that one answer speaks of, in model pixels."""
        ...


@dataclass(frozen=True, slots=True)
class PatchShape:
    """What of a patch decides its label.

    Attributes
    ----------
    patch_px
        Side of a patch, in model pixels.
    label_px
        Side of the central square in which any tumour makes it a tumour patch; it leaves as much on every side.
    margin_px
        How far around that square a normal patch is free of tumour.
    """

    patch_px: int
    label_px: int
    margin_px: int

    @classmethod
    def of(cls, patch_px: int, settings: SamplingSettings, effective_mpp: float) -> PatchShape:
        """Return the shape that the settings ask for, at the µm per pixel that the model really sees."""
        border = round(patch_px * (1 - settings.label_share) / 2)
        label_px = max(patch_px - 2 * border, 1 + (patch_px - 1) % 2)
        return cls(patch_px, label_px, math.ceil(settings.normal_margin_um / effective_mpp))

    def patch_at(self, x: int, y: int) -> Region:
        """Return the patch around a model pixel."""
        return Region(x - self.patch_px // 2, y - self.patch_px // 2, self.patch_px, self.patch_px)

    def patch_in(self, window: Region) -> Region:
        """Return the patch in the middle of the window that an answer depends on."""
        left, top = (window.width - self.patch_px) // 2, (window.height - self.patch_px) // 2
        return Region(window.x + left, window.y + top, self.patch_px, self.patch_px)

    def label_square(self, patch: Region, *, margin_px: int = 0) -> Region:
        """Return the square of a patch that decides its label, grown by a margin."""
        border = (self.patch_px - self.label_px) // 2 - margin_px
        side = self.label_px + 2 * margin_px
        return Region(patch.x + border, patch.y + border, side, side)


class CellSet:
    """Some cells of a grid, a bit each, of which any can be drawn.

    Parameters
    ----------
    mask
        (rows, columns): the cells.
    """

    __slots__ = ("_bits", "_column", "_ends", "_row", "_width")

    def __init__(self, mask: BoolArray) -> None:
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        # Cut to what is set: of most slides tissue covers a part, and tumour a small one.
        self._row, self._column = (int(found[0]) if len(found) else 0 for found in (rows, columns))
        bottom, right = (int(found[-1]) + 1 if len(found) else 0 for found in (rows, columns))
        part = mask[self._row : bottom, self._column : right]
        self._width = part.shape[1]
        self._bits = np.packbits(part, axis=1)
        self._ends = np.cumsum(part.sum(axis=1), dtype=np.int64)

    def __len__(self) -> int:
        """Return how many cells there are."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def cell(self, number: int) -> tuple[int, int]:
        """Return (column, row) of a cell by its number in reading order."""
        row = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[row - 1]) if row else 0
        columns = np.flatnonzero(np.unpackbits(self._bits[row], count=self._width))
        return self._column + int(columns[number - before]), self._row + row

    def holds(self, column: int, row: int) -> bool:
        """Return whether a cell of the grid is one of them."""
        x, y = column - self._column, row - self._row
        if not (0 <= x < self._width and 0 <= y < len(self._ends)):
            return False
        return bool(self._bits[y, x >> 3] >> (7 - (x & 7)) & 1)


@dataclass(frozen=True, slots=True, eq=False)
class SlideLocations:
    """Where patches of each class can be taken from a slide.

    Attributes
    ----------
    frame
        The model's pixels on the slide.
    shape
        What of a patch decides its label.
    cell_px
        Side of a coarse cell, in model pixels.
    centers
        Cells in which the centre of a normal (0) and of a tumour patch (1) may lie.
    near
        Cells whose patches may not be free of tumour: the reference has to be asked.
    full
        Cells that are tumour all over: no need to ask.
    known
        Where what is not tumour is known to be normal.
    """

    frame: ModelFrame
    shape: PatchShape
    cell_px: int
    centers: tuple[CellSet, CellSet]
    near: CellSet
    full: CellSet
    known: KnownNormal

    def gives(self, label: int) -> bool:
        """Return whether patches of a class can be taken: 0 normal, 1 tumour."""
        return len(self.centers[label]) > 0

    def draw(self, label: int, reference: TumourReference, generator: np.random.Generator) -> Region | None:
        """Return a random patch of a class, in model pixels, or ``None`` where none is found.

        Every patch of the class is as likely as any other.

        Parameters
        ----------
        label
            0 normal, 1 tumour.
        reference
            Of the slide.
        generator
            Decides.
        """
        cells = self.centers[label]
        for _ in range(_MAX_DRAWS if len(cells) else 0):
            column, row = cells.cell(int(generator.integers(len(cells))))
            dx, dy = generator.integers(self.cell_px, size=2).tolist()
            x, y = column * self.cell_px + dx, row * self.cell_px + dy
            # Cells at the right and bottom edge reach past the slide.
            if x >= self.frame.size.width or y >= self.frame.size.height:
                continue
            patch = self.shape.patch_at(x, y)
            if self._is(label, patch, column, row, reference):
                return patch
        return None

    def _is(self, label: int, patch: Region, column: int, row: int, reference: TumourReference) -> bool:
        square = self.shape.label_square(patch)
        if label:
            inside = self.known.ignored.empty and self.full.holds(column, row)
            return inside or bool(self.known.counted(reference.over(self.frame, square), self.frame, square).any())
        if not self.known.without_limits and not self.known.over(self.frame, square).all():
            return False
        if not self.near.holds(column, row):
            return True
        wider = self.shape.label_square(patch, margin_px=self.shape.margin_px)
        return not reference.over(self.frame, wider).any()


def find_locations(
    slide: Slide, reference: TumourReference, spec: PatchPixels, settings: SamplingSettings, known: KnownNormal
) -> SlideLocations:
    """Find where patches can be taken from a slide: from its low-power image, and the reference at low power.

    Parameters
    ----------
    slide
        An open slide.
    reference
        Where its tumour is.
    spec
        The model that is trained.
    settings
        What makes a patch tumour or normal.
    known
        Where what is not tumour is known to be normal.

    Raises
    ------
    CorruptSlideError
        If the slide cannot be read.
    AnnotationError
        If its mask cannot be read.
    """
    frame = slide.frame(spec.mpp)
    shape = PatchShape.of(spec.patch_px, settings, frame.effective_mpp)
    cell_px = max(1, round(_CELL_UM / frame.effective_mpp))
    # As a heatmap whose patches are its cells, which lie at whole multiples from the slide's corner.
    grid = HeatmapFrame(model=frame, patch_px=cell_px, stride_px=cell_px)
    tissue = _tissue(slide, grid)
    coarse = reference.over_cells(grid)
    reach = math.ceil(shape.label_px / 2 / cell_px)
    tumour = _grown(coarse.may_hold, reach)
    # Outlines run across fat and folds; where nothing of a lesion is taken for tissue, the outline is believed.
    tumour = tumour & tissue if (tumour & tissue).any() else tumour
    normal = tissue & ~coarse.full & known.may_hold(grid)
    near = _grown(coarse.may_hold, math.ceil((shape.label_px / 2 + shape.margin_px) / cell_px))
    locations = SlideLocations(
        frame=frame,
        shape=shape,
        cell_px=cell_px,
        centers=(CellSet(normal), CellSet(tumour)),
        near=CellSet(near),
        full=CellSet(coarse.full),
        known=known,
    )
    return _without_empty(locations, reference)


def _tissue(slide: Slide, grid: HeatmapFrame) -> BoolArray:
    """Return the cells with tissue; without the margin that a scan adds, which is mostly glass."""
    if slide.path.suffix.lower() in _PICTURES:
        return np.ones(grid.cells.shape, dtype=bool)
    return tissue_mask(slide, replace(TissueSettings(), margin_um=0.0), threads=1).over(grid)


def _grown(cells: BoolArray, reach: int) -> BoolArray:
    """Return cells and those within ``reach`` of them, corners too."""
    side = 2 * reach + 1
    grown: BoolArray = ndimage.maximum_filter(cells.view(np.uint8), size=side, mode="constant").view(np.bool_)
    return grown


def _without_empty(locations: SlideLocations, reference: TumourReference) -> SlideLocations:
    """Leave out the classes that no draw finds: outlines too thin for a pixel, tissue that is all tumour."""
    nothing = CellSet(np.zeros((0, 0), dtype=bool))
    centers = tuple(
        cells if locations.draw(label, reference, np.random.default_rng(label)) is not None else nothing
        for label, cells in enumerate(locations.centers)
    )
    return replace(locations, centers=(centers[0], centers[1]))
