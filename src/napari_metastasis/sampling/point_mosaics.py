"""Mosaics of crops around points, with their maps of probability: the same for training and for measuring.

A crop has its point in the middle, which a network must not learn. So each is shifted at random within itself and what
mirrors it at its edges, then turned, and crops lie side by side in one image, so that a network that pads nothing reads
little more than it answers. Around the whole lies its mirror image. What is mirrored has its points mirrored as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.point_crops import PointCrop, PointCrops
from napari_metastasis.errors import TrainingError
from napari_metastasis.geometry import SYMMETRIES, ModelFrame, Region, Size
from napari_metastasis.sampling.point_maps import point_map
from napari_metastasis.settings import PointMapSettings

__all__ = ["Painter", "PointMosaic", "PointMosaics", "emptied_crop", "shifted_crop"]

#: Of the order of each epoch, and of how each crop is shifted and turned.
_ORDER, _SHIFT = 0, 1
_WHITE = 255


class Painter(Protocol):
    """Draws into crops what nobody saw, such as synthetic points."""

    @property
    def identity(self) -> str:
        """Return what tells pictures drawn otherwise apart."""

    def painted(self, crop: PointCrop, mpp: float, generator: np.random.Generator) -> PointCrop:
        """Return a crop of so many µm per pixel with what was drawn into it, and the points of that."""


@dataclass(frozen=True, slots=True, eq=False)
class PointMosaic:
    """Crops side by side.

    Attributes
    ----------
    image
        (margin + side + margin, the same, 3) uint8.
    known
        (side, side) bool, of the answered middle: not where a slide ended, and where no crop lies.
    probability
        (side, side) float32, π of the answered middle. A point says nothing of the crop beside its own.
    xy
        (n, 2) float64, points as (x, y) from the corner of the answered middle.
    crops
        (cells, cells) int64: which crop lies where; -1 for none.
    """

    image: npt.NDArray[np.uint8]
    known: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.float32]
    xy: npt.NDArray[np.float64]
    crops: npt.NDArray[np.int64]


# Told apart by identity, as other sources that hold arrays.
@dataclass(frozen=True, eq=False)
class PointMosaics:
    """Mosaics of some crops, each crop once before any comes again.

    Attributes
    ----------
    source
        The crops.
    indices
        Which of them.
    shrink
        Pixels of a crop along a side of a model pixel, which is their mean.
    cells
        Crops along a side of a mosaic. One makes single crops in what mirrors them.
    margin_px
        Around the answered middle, in model pixels: half of a network's field.
    shift_px
        How far a crop is shifted at most, in its own pixels.
    maps
        How points become maps.
    seed
        Of the order, the shifts and the turns.
    empty_share
        Share of the crops of which a strip without any point is shown instead, mirrored until it fills the crop.
    clear_um
        How far such a strip keeps from every point: what is set is a cell, and not its middle alone.
    painter
        Draws into such strips; nobody where it is ``None``.

    Raises
    ------
    TrainingError
        If there is no crop, or none can be cut like that.
    """

    source: PointCrops
    indices: npt.NDArray[np.int64]
    shrink: int
    cells: int
    margin_px: int
    shift_px: int
    maps: PointMapSettings
    seed: int
    empty_share: float = 0.0
    clear_um: float = 6.0
    painter: Painter | None = None

    def __post_init__(self) -> None:
        """Refuse what no mosaic can be made of."""
        side = self.source.side_px
        if len(self.indices) == 0:
            raise TrainingError("expected at least one crop for a mosaic, got none; name other slides")
        if self.shrink < 1 or side % self.shrink or not 0 <= self.shift_px < side / 2:
            raise TrainingError(
                f"expected crops of {side} px that are shifted by less than half of that and shrunk by a divisor of "
                f"it, got a shift of {self.shift_px} px and {self.shrink}; choose others"
            )

    def __len__(self) -> int:
        """Return how many mosaics hold each crop once; the last may have empty places."""
        return math.ceil(len(self.indices) / self.cells**2)

    @property
    def mpp(self) -> float:
        """Return µm per model pixel."""
        return self.source.mpp * self.shrink

    @property
    def cell_px(self) -> int:
        """Return the side of a crop in model pixels."""
        return self.source.side_px // self.shrink

    def mosaic(self, number: int) -> PointMosaic:
        """Return mosaic ``number``, counted from 0 over all epochs."""
        epoch, place = divmod(number, len(self))
        order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.indices)
        side = self.cells * self.cell_px
        image = np.full((side, side, 3), _WHITE, np.uint8)
        known, probability = np.zeros((side, side), np.bool_), np.zeros((side, side), np.float32)
        crops, points = np.full((self.cells, self.cells), -1, np.int64), [np.empty((0, 2))]
        chosen = order[place * self.cells**2 : (place + 1) * self.cells**2]
        for slot, index in enumerate(chosen.tolist()):
            row, column = divmod(slot, self.cells)
            crop = self._drawn(index, np.random.default_rng([self.seed, _SHIFT, number, slot]))
            cell = Region(column * self.cell_px, row * self.cell_px, self.cell_px, self.cell_px)
            image[cell.slices], known[cell.slices], crops[row, column] = (
                self._shrunk(crop),
                self._all(crop.known),
                index,
            )
            probability[cell.slices] = self._map(crop.xy)
            inside = ((crop.xy > 0) & (crop.xy < self.source.side_px)).all(axis=1)
            points.append(crop.xy[inside] / self.shrink + (cell.x, cell.y))
        margin = (self.margin_px, self.margin_px)
        return PointMosaic(
            np.pad(image, (margin, margin, (0, 0)), mode="symmetric"), known, probability, np.concatenate(points), crops
        )

    def _drawn(self, index: int, generator: np.random.Generator) -> PointCrop:
        """Return a crop shifted and turned at random; points that lie outside it are kept, for its map."""
        shift = generator.integers(-self.shift_px, self.shift_px, 2, endpoint=True)
        turn = SYMMETRIES[generator.integers(len(SYMMETRIES))]
        whole = self.source.read(index)
        # Not even drawn where nobody asks: earlier runs are repeated as they were.
        empty = self.empty_share > 0 and generator.random() < self.empty_share
        crop = (
            emptied_crop(whole, self.clear_um / self.source.mpp, generator)
            if empty
            else shifted_crop(whole, int(shift[0]), int(shift[1]))
        )
        if empty and self.painter is not None:
            crop = self.painter.painted(crop, self.source.mpp, generator)
        xy = turn.move(crop.xy, self.source.side_px)
        return PointCrop(turn.apply(crop.image), turn.apply(crop.known), xy)

    def _blocks(self, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return pixels.reshape(self.cell_px, self.shrink, self.cell_px, self.shrink, *pixels.shape[2:])

    def _shrunk(self, crop: PointCrop) -> npt.NDArray[np.uint8]:
        return np.rint(self._blocks(crop.image).mean(axis=(1, 3))).astype(np.uint8)

    def _all(self, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = np.all(self._blocks(known), axis=(1, 3))
        return found

    def _map(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        side = Size(self.cell_px, self.cell_px)
        frame = ModelFrame(scale=float(self.shrink), mpp=self.source.mpp, size=side)
        return point_map(xy, frame, Region(0, 0, self.cell_px, self.cell_px), self.maps)


def shifted_crop(crop: PointCrop, right_px: int, down_px: int) -> PointCrop:
    """Return what lies so many pixels to the right and below, of a crop and its mirror images at its edges.

    Points of the mirror images are points; those outside the returned crop are among them.
    """
    side, reach = len(crop.image), max(abs(right_px), abs(down_px))
    rows, columns = (slice(reach + shift, reach + shift + side) for shift in (down_px, right_px))
    around = ((reach, reach), (reach, reach))
    x, y = (np.stack([-along, along, 2 * side - along], axis=1) for along in crop.xy.T)
    xy = np.stack(np.broadcast_arrays(x[:, :, None], y[:, None, :]), axis=-1).reshape(-1, 2) - (right_px, down_px)
    image = np.pad(crop.image, (*around, (0, 0)), mode="symmetric")[rows, columns]
    return PointCrop(image, np.pad(crop.known, around, mode="symmetric")[rows, columns], xy)


def emptied_crop(crop: PointCrop, clear_px: float, generator: np.random.Generator) -> PointCrop:
    """Return a strip along one edge of a crop that keeps clear of every point, mirrored until it is as large.

    Which edge, of those at which such a strip is wide enough, and where its mirror images begin, is drawn. Where there
    is none, nothing is known of what is returned.
    """
    side = len(crop.image)
    # Turned so that the strip lies on the left; each turn moves another edge there.
    strips = []
    for turn in SYMMETRIES:
        width = min((math.floor(x - clear_px) for x in turn.move(crop.xy, side)[:, 0]), default=side)
        if width >= min(clear_px, side):
            strips.append((turn, min(width, side)))
    turn, width = strips[generator.integers(len(strips))] if strips else (SYMMETRIES[0], side)
    first = int(generator.integers(0, 2 * width))
    # Forth and back, from a place that is drawn.
    columns = (np.arange(side) + first) % (2 * width)
    columns = np.minimum(columns, 2 * width - 1 - columns)
    image, known = turn.apply(crop.image)[:, columns], turn.apply(crop.known)[:, columns]
    return PointCrop(image, known & bool(strips), np.empty((0, 2)))
