"""Crops around points that a person set on slides, such as mitotic figures, with a table of where each was cut.

The table has a row a crop: ``file``, its name in the folder or zip; ``slide``, and ``source`` where slides of several
collections may share a name; ``x`` and ``y``, the point in the slide's pixels, which is the crop's middle. A crop is a
piece of its slide: what else was set on that slide, and lies in the crop, is a point of the crop, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.patches import PatchSource, join_patches, open_named_patches
from napari_metastasis.errors import PatchDatasetError
from napari_metastasis.plain_csv import PlainCsvError, read_csv
from napari_metastasis.settings import PointScoringSettings, setting_of
from napari_metastasis.storage import home_path

__all__ = ["PointCrop", "PointCrops", "join_crops", "open_point_crops", "split_slides"]

_COLUMNS = ("file", "slide", "x", "y")
_SOURCE = "source"
#: Around what nobody reviewed nothing is known as far as a point that is set there would be found.
_DOUBTFUL_UM, _ = setting_of(PointScoringSettings, "radius_um")


@dataclass(frozen=True, slots=True, eq=False)
class PointCrop:
    """A piece of a slide with the points that lie in it.

    Attributes
    ----------
    image
        (side, side, 3) uint8.
    known
        (side, side) bool: not where the slide ended, and the crop was filled up with black, nor around what nobody
        reviewed.
    xy
        (n, 2) float64, points as (x, y) from the crop's corner, in its pixels.
    """

    image: npt.NDArray[np.uint8]
    known: npt.NDArray[np.bool_]
    xy: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PointCrops:
    """Crops of one size around points, in their table's order.

    Attributes
    ----------
    pictures
        Of the crops.
    slides
        n names: the slide of each, with its source.
    xy
        (n, 2) float64, middles of the crops in their slide's pixels.
    mpp
        µm per pixel.
    side_px
        Side of a crop.
    points
        (m, 2) float64, the points of each slide in its pixels; ``None`` where they are the middles of its crops.
    unreviewed
        (k, 2) float64, of slides: what a model found in their pixels, and nobody reviewed. It may be a point or none,
        so that nothing is known within 7.5 µm.
    """

    pictures: PatchSource
    slides: tuple[str, ...]
    xy: npt.NDArray[np.float64]
    mpp: float
    side_px: int
    points: Mapping[str, npt.NDArray[np.float64]] | None = None
    unreviewed: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.slides)

    def of_slides(self, slides: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of the crops of some slides, in their order."""
        return np.flatnonzero(np.isin(self.slides, list(slides)))

    def read(self, index: int) -> PointCrop:
        """Return a crop.

        Raises
        ------
        PatchDatasetError
            If it cannot be read, or has another size than the first.
        """
        image = self.pictures.read(index)
        if image.shape[:2] != (self.side_px, self.side_px):
            raise PatchDatasetError(
                f"expected crops of {self.side_px} x {self.side_px} px, got {image.shape[1]} x {image.shape[0]} of "
                f"{self.pictures.names[index]}; cut them alike"
            )
        # Black from edge to edge: a nucleus is never that dark, nor a slide that wide.
        black: npt.NDArray[np.bool_] = image.max(axis=2) == 0
        rows, columns = (np.asarray(np.all(black, axis=axis)) for axis in (1, 0))
        known = ~(rows[:, None] | columns)
        along = np.arange(self.side_px) + 0.5
        for x, y in self._in_crop(self.unreviewed_of(self.slides[index]), index).tolist():
            known &= np.hypot(along[:, None] - y, along - x) * self.mpp > _DOUBTFUL_UM
        return PointCrop(image, known, self.points_in(index))

    def points_in(self, index: int) -> npt.NDArray[np.float64]:
        """Return the points in a crop, (n, 2) of (x, y) from its corner, without reading it."""
        xy = self._in_crop(self.points_of(self.slides[index]), index)
        return xy[((xy > 0) & (xy < self.side_px)).all(axis=1)]

    def points_of(self, slide: str) -> npt.NDArray[np.float64]:
        """Return the points of a slide, (n, 2) of (x, y) in its pixels."""
        return self._points[slide]

    def unreviewed_of(self, slide: str) -> npt.NDArray[np.float64]:
        """Return what nobody reviewed on a slide, (n, 2) of (x, y) in its pixels."""
        return self.unreviewed.get(slide, np.empty((0, 2)))

    def _in_crop(self, xy: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float64]:
        """Return places on its slide from a crop's corner."""
        return np.asarray(xy - self.xy[index] + self.side_px / 2, np.float64)

    @cached_property
    def _points(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """Return the points of each slide."""
        if self.points is not None:
            return self.points
        return {slide: self.xy[self.of_slides([slide])] for slide in set(self.slides)}


def join_crops(parts: Sequence[PointCrops]) -> PointCrops:
    """Return crops of several collections as one, in their order; those of one size and resolution.

    Raises
    ------
    PatchDatasetError
        If a slide's name is in two of them.
    """
    points: dict[str, npt.NDArray[np.float64]] = {}
    for part in parts:
        for slide in part._points:
            if slide in points:
                raise PatchDatasetError(f"expected slides of different names, got {slide} twice; rename one")
        points.update(part._points)
    return PointCrops(
        join_patches([part.pictures for part in parts]),
        tuple(slide for part in parts for slide in part.slides),
        np.concatenate([part.xy for part in parts]),
        parts[0].mpp,
        parts[0].side_px,
        points,
        {slide: xy for part in parts for slide, xy in part.unreviewed.items()},
    )


def split_slides(
    slides: Iterable[str], *, validation_share: float, test_share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the slides that are learnt from, those that tell the threshold, and those that are measured, apart.

    The last depend on their share and the seed alone: another share of the second moves none of them.

    Raises
    ------
    PatchDatasetError
        If none is left to learn from, or to validate on.
    """
    drawn = np.random.default_rng(seed).permutation(sorted(set(slides))).tolist()
    tested, validated = (round(share * len(drawn)) for share in (test_share, validation_share))
    found = tuple(map(tuple, (drawn[tested + validated :], drawn[tested : tested + validated], drawn[:tested])))
    if not found[0] or not found[1]:
        raise PatchDatasetError(
            f"expected slides to learn from and to validate on, got {len(found[0])} and {len(found[1])} of {len(drawn)}"
            "; lower --test-share or --validation-share, or give crops of more slides"
        )
    return found[0], found[1], found[2]


def open_point_crops(pictures: str | Path, table: str | Path, *, mpp: float) -> PointCrops:
    """Return the crops of a folder or zip archive that a table names.

    Parameters
    ----------
    pictures
        Folder or zip archive.
    table
        CSV; see above.
    mpp
        µm per pixel of the crops and of their slides.

    Raises
    ------
    PatchDatasetError
        If a file cannot be read, the table names no crop, or a row of it is not as described.
    """
    path = home_path(table)
    try:
        found = read_csv(path)
    except (OSError, PlainCsvError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PatchDatasetError(f"expected a table of crops, got {reason} in {path}; fetch it again") from error
    columns = [cell.strip().lower() for row in found[:1] for cell in row.cells]
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise PatchDatasetError(f"expected columns {', '.join(_COLUMNS)}, got none called {missing[0]} in {path}")
    if len(found) < 2:
        raise PatchDatasetError(f"expected a row for each crop, got none in {path}; fetch it again")
    names, slides, places = [], [], []
    for row in found[1:]:
        cells = dict(zip(columns, map(str.strip, row.cells), strict=False))
        names.append(cells.get("file", ""))
        slides.append("/".join(filter(None, (cells.get(_SOURCE, ""), cells.get("slide", "")))))
        places.append(_place(cells, f"line {row.line} of {path}"))
    source = open_named_patches(pictures, names)
    return PointCrops(source, tuple(slides), np.array(places, np.float64), mpp, len(source.read(0)))


def _place(cells: dict[str, str], where: str) -> Sequence[float]:
    """Return x and y of a row.

    Raises
    ------
    PatchDatasetError
        If one is no finite number.
    """
    try:
        place = [float(cells.get(name, "")) for name in ("x", "y")]
    except ValueError:
        place = [math.nan]
    if not all(map(math.isfinite, place)):
        raise PatchDatasetError(
            f"expected finite x and y, got {cells.get('x')!r} and {cells.get('y')!r} in {where}; correct the row"
        )
    return place
