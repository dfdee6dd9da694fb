"""What is cropped from a slide around a drawn location, with its labels: a patch, a square of many, or of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.geometry import Region
from napari_metastasis.geometry.summed_area import SummedArea
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.slide_index import IndexedSlide
from napari_metastasis.slides import Slide

__all__ = ["ABSENT", "UNKNOWN", "Crop", "GridCrop", "PatchCrop", "TileCrop"]

#: Label of a patch or pixel that is neither tumour nor known to be free of it, and of one that is off the slide.
UNKNOWN, ABSENT = -1, -2


class Crop(Protocol):
    """Crops an image around a location. Picklable."""

    @property
    def side_px(self) -> int:
        """Return the side of an image, in model pixels."""
        ...

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return the shape of an image's labels."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what the fingerprint of batches says of the crop, as plain values."""
        ...

    def take(
        self, slide: Slide, indexed: IndexedSlide, location: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return an image, (side, side, 3) uint8, and its labels, int64.

        Parameters
        ----------
        slide, indexed
            The open slide, and what is known of it.
        location
            The patch that was drawn, in model pixels.
        label
            Of that patch.
        generator
            Decides what is left open.
        """
        ...


@dataclass(frozen=True, slots=True)
class PatchCrop:
    """The patch that was drawn, in its surroundings, with its label.

    Attributes
    ----------
    patch_px
        Side of a patch.
    margin_px
        How much of the slide around it is cropped as well, on each side.
    """

    patch_px: int
    margin_px: int = 0

    @property
    def side_px(self) -> int:
        """Return the side of an image."""
        return self.patch_px + 2 * self.margin_px

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return the shape of a single label."""
        return ()

    def identity(self) -> dict[str, Any]:
        """Return the margin; nothing without one: such runs keep the fingerprints that they had before."""
        return {"margin_px": self.margin_px} if self.margin_px else {}

    def take(
        self, slide: Slide, indexed: IndexedSlide, location: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return the patch in its margin."""
        del generator
        margin = self.margin_px
        window = Region(
            location.x - margin, location.y - margin, location.width + 2 * margin, location.height + 2 * margin
        )
        return slide.read(indexed.locations.frame, window), np.array(label)


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
    def _inset_px(self) -> int:
        """Return how far from the crop's corner the first cell's patch lies."""
        return (self.spec.field_px - self.spec.patch_px) // 2 + self._spread_px // 2

    @property
    def side_px(self) -> int:
        """Return the side of the crop."""
        return self.spec.field_px + (self.cells - 1) * self.spec.stride_px + self._spread_px

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return rows and columns of cells."""
        return (self.cells, self.cells)

    def identity(self) -> dict[str, Any]:
        """Return the cells and the side."""
        return {"cells": self.label_shape, "side_px": self.side_px}

    def take(
        self, slide: Slide, indexed: IndexedSlide, location: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return a crop in which the drawn patch is any of the cells, and the label of each.

        A cell is tumour where its label square holds any, normal where neither that nor its margin does and the square
        is known to show normal tissue, :data:`ABSENT` where its centre is off the slide, and :data:`UNKNOWN`
        otherwise.
        """
        del label  # the reference is asked for every cell
        column, row = generator.integers(self.cells, size=2).tolist()
        stride, inset = self.spec.stride_px, self._inset_px
        side = self.side_px
        crop = Region(location.x - inset - column * stride, location.y - inset - row * stride, side, side)
        image = slide.read(indexed.locations.frame, crop)
        return image, self._labels(indexed, crop)

    def _labels(self, indexed: IndexedSlide, crop: Region) -> npt.NDArray[np.int64]:
        shape = indexed.locations.shape
        inset = self._inset_px
        corner = Region(crop.x + inset, crop.y + inset, shape.patch_px, shape.patch_px)
        first, wider = shape.label_square(corner), shape.label_square(corner, margin_px=shape.margin_px)
        steps = (self.cells - 1) * self.spec.stride_px
        asked = Region(wider.x, wider.y, wider.width + steps, wider.height + steps)
        frame, known = indexed.locations.frame, indexed.known_normal

        def holds(pixels: SummedArea, square: Region) -> npt.NDArray[np.bool_]:
            """Return whether the square, laid around every cell, holds any of the pixels that were asked for."""
            # Squares are as far from the corner that was asked for along x as along y.
            starts = square.x - asked.x + np.arange(self.cells) * self.spec.stride_px
            spans = np.stack([starts, starts + square.width], axis=1)
            return pixels.count_grid(spans, spans) > 0

        pixels = indexed.reference.over(frame, asked)
        tumour = SummedArea(pixels)
        counted = tumour if known.ignored.empty else SummedArea(known.counted(pixels, frame, asked))
        normal = ~holds(tumour, wider)
        if not known.without_limits:
            normal &= ~holds(SummedArea(~known.over(frame, asked)), first)
        labels = np.full(self.label_shape, UNKNOWN, np.int64)
        labels[normal] = 0
        labels[holds(counted, first)] = 1
        size = frame.size
        middles = shape.patch_px // 2 + np.arange(self.cells) * self.spec.stride_px
        rows, columns = corner.y + middles, corner.x + middles
        labels[(rows < 0) | (rows >= size.height), :] = ABSENT
        labels[:, (columns < 0) | (columns >= size.width)] = ABSENT
        return labels


@dataclass(frozen=True, slots=True)
class TileCrop:
    """A square of pixels, each with a label of its own, in as much of the slide as the answers for them depend on.

    Attributes
    ----------
    tile_px
        Side of the square.
    field_px
        How much wider the image is; half of it lies on either side.
    focusing
        Whether tissue that nobody labelled is no example of anything (Khalil et al. 2022, 3.2.4), or else of normal
        tissue.
    """

    tile_px: int
    field_px: int
    focusing: bool = True

    @property
    def side_px(self) -> int:
        """Return the side of an image."""
        return self.tile_px + self.field_px

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return rows and columns of pixels."""
        return (self.tile_px, self.tile_px)

    def identity(self) -> dict[str, Any]:
        """Return the square, what lies around it, and what unlabelled tissue counts as."""
        return {"tile_px": self.tile_px, "field_px": self.field_px, "focusing": self.focusing}

    def take(
        self, slide: Slide, indexed: IndexedSlide, location: Region, label: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return an image whose tile has the drawn location's centre anywhere in it, and the label of each pixel.

        The tile lies on the slide, as far as that is large enough. A pixel is tumour where the reference says so,
        :data:`ABSENT` where it is off the slide, normal where the slide is known to show normal tissue or focusing is
        off, and :data:`UNKNOWN` otherwise, and where it is to be ignored.
        """
        del label  # the reference is asked for every pixel
        frame = indexed.locations.frame
        left = self._start(location.x + location.width // 2, frame.size.width, generator)
        top = self._start(location.y + location.height // 2, frame.size.height, generator)
        tile = Region(left, top, self.tile_px, self.tile_px)
        around = self.field_px // 2
        image = slide.read(frame, Region(left - around, top - around, self.side_px, self.side_px))
        known = indexed.known_normal
        labels = np.zeros(self.label_shape, np.int64)
        if self.focusing and not known.everywhere:
            labels[~known.over(frame, tile)] = UNKNOWN
        labels[indexed.reference.over(frame, tile)] = 1
        if not known.ignored.empty:
            labels[known.ignored.over(frame, tile)] = UNKNOWN
        rows, columns = top + np.arange(self.tile_px), left + np.arange(self.tile_px)
        labels[(rows < 0) | (rows >= frame.size.height), :] = ABSENT
        labels[:, (columns < 0) | (columns >= frame.size.width)] = ABSENT
        return image, labels

    def _start(self, middle: int, size: int, generator: np.random.Generator) -> int:
        """Return where a tile that holds a pixel of the slide begins, along one axis."""
        first = max(middle + 1 - self.tile_px, min(0, size - self.tile_px))
        last = min(middle, max(0, size - self.tile_px))
        return int(generator.integers(first, last + 1))
