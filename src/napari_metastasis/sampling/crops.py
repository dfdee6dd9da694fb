"""What is cut out of a slide around a drawn place, and which labels go with it: one patch, or a window of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.slide_index import IndexedSlide
from napari_metastasis.slides import Slide

__all__ = ["ABSENT", "UNKNOWN", "Crop", "GridCrop", "PatchCrop"]

#: Label of a patch that is neither tumour nor known to be free of it, and of one that is not on the slide at all.
UNKNOWN, ABSENT = -1, -2


class Crop(Protocol):
    """Cuts an image around a place. Picklable."""

    @property
    def side_px(self) -> int:
        """Return the side of an image, in model pixels."""
        ...

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return the shape of an image's labels."""
        ...

    def take(
        self, slide: Slide, member: IndexedSlide, place: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return an image, (side, side, 3) uint8, and its labels, int64.

        Parameters
        ----------
        slide, member
            The open slide, and what is known of it.
        place
            The patch that was drawn, in model pixels.
        label
            Of that patch.
        generator
            Decides what is left open.
        """
        ...


@dataclass(frozen=True, slots=True)
class PatchCrop:
    """The patch that was drawn, with its label.

    Attributes
    ----------
    side_px
        Of a patch.
    """

    side_px: int

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return the shape of a single label."""
        return ()

    def take(
        self, slide: Slide, member: IndexedSlide, place: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return the patch."""
        del generator
        return slide.read(member.places.frame, place), np.array(label)


@dataclass(frozen=True, slots=True)
class GridCrop:
    """A square of native cells, one of which is the patch that was drawn; every cell has a label of its own.

    Attributes
    ----------
    spec
        The encoder.
    cells
        Along a side.
    dense_coefficient
        The encoder averages its features over as many dense cells along a side of a native cell.
    """

    spec: ModelSpec
    cells: int
    dense_coefficient: int

    @property
    def _spread_px(self) -> int:
        """Return how far apart the first and the last patch lie that a native cell averages."""
        return self.spec.stride_px - self.spec.dense_stride_px(self.dense_coefficient)

    @property
    def side_px(self) -> int:
        """Return the side of the window."""
        return self.spec.patch_px + (self.cells - 1) * self.spec.stride_px + self._spread_px

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return rows and columns of cells."""
        return (self.cells, self.cells)

    def take(
        self, slide: Slide, member: IndexedSlide, place: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return a window in which the drawn patch is any of the cells, and the label of each.

        A cell is tumour where its label square holds any, normal where neither that nor its margin does and the slide
        is known to show normal tissue there, :data:`ABSENT` where its centre is off the slide, and :data:`UNKNOWN`
        otherwise.
        """
        del label  # the truth is asked for every cell
        column, row = generator.integers(self.cells, size=2).tolist()
        stride, inset = self.spec.stride_px, self._spread_px // 2
        side = self.side_px
        window = Region(place.x - inset - column * stride, place.y - inset - row * stride, side, side)
        image = slide.read(member.places.frame, window)
        return image, self._labels(member, window)

    def _labels(self, member: IndexedSlide, window: Region) -> npt.NDArray[np.int64]:
        shape = member.places.shape
        inset = self._spread_px // 2
        corner = Region(window.x + inset, window.y + inset, shape.patch_px, shape.patch_px)
        first, wider = shape.label_square(corner), shape.label_square(corner, margin_px=shape.margin_px)
        steps = (self.cells - 1) * self.spec.stride_px
        asked = Region(wider.x, wider.y, wider.width + steps, wider.height + steps)
        tumour = member.truth.over(member.places.frame, asked)
        sums = np.zeros((asked.height + 1, asked.width + 1), np.int32)
        np.cumsum(np.cumsum(tumour, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])

        def holds(square: Region) -> npt.NDArray[np.bool_]:
            """Return whether the square, laid around every cell, holds tumour."""
            starts = square.x - asked.x + np.arange(self.cells) * self.spec.stride_px
            ends = starts + square.width
            down = sums[ends] - sums[starts]
            return (down[:, ends] - down[:, starts]) > 0

        labels = np.full(self.label_shape, UNKNOWN, np.int64)
        if member.slide.shows_normal:
            labels[~holds(wider)] = 0
        labels[holds(first)] = 1
        size = member.places.frame.size
        middles = shape.patch_px // 2 + np.arange(self.cells) * self.spec.stride_px
        rows, columns = corner.y + middles, corner.x + middles
        labels[(rows < 0) | (rows >= size.height), :] = ABSENT
        labels[:, (columns < 0) | (columns >= size.width)] = ABSENT
        return labels
