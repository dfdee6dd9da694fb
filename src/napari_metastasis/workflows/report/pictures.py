"""Pictures of what was found: the whole slide with outlines, and each finding as at the microscope."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import imagecodecs
import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image

from napari_metastasis.geometry import HeatmapFrame, Region, Size
from napari_metastasis.lesions import SIZE_CLASSES, LesionReview, SizeClass
from napari_metastasis.slides import Slide, TissueMask
from napari_metastasis.storage import atomic_write
from napari_metastasis.workflows.report.drawing import (
    HATCH_LABEL,
    Label,
    Legend,
    draw_labels,
    draw_lines,
    draw_rings,
    hatch,
    with_footer,
    with_scale_bar,
)

__all__ = ["FINDING_MPP", "NOT_COUNTED_COLOR", "Found", "Outlined", "finding_image", "overview_image", "write_overview"]

Picture = npt.NDArray[np.uint8]

#: Longest side of an overview: sharp on a page, small in a file.
_SIDE_PX = 1600
#: A finding is shown at 20x, on a square of 0.2 mm: as long as the longest isolated tumour cells.
FINDING_MPP, _FINDING_PX = 0.5, 400
#: Of a finding that is longer than this share of the square, the strongest place is shown, else its middle.
_FITS = 0.95

#: Probability -> colour, red upon yellow, and how much of it covers the tissue: nothing where there is no tumour.
_STOPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_COLOURS = np.array([[255, 237, 160], [254, 217, 118], [253, 141, 60], [227, 26, 28], [128, 0, 38]], np.float64)
_OPACITIES = np.array([0.0, 0.15, 0.45, 0.6, 0.65])

#: Of outlines that do not count: a person took them away, or drew another one; or they are part of another.
_NOT_COUNTED = (215, 215, 215)
NOT_COUNTED_COLOR = "#{:02x}{:02x}{:02x}".format(*_NOT_COUNTED)
_NOT_COUNTED_LABEL = "Not counted"

#: Findings smaller than this, in pixels of an overview, have a circle around them.
_SMALL_PX, _RING_PX = 10.0, 12.0
_OVERVIEW_LINE_PX, _FINDING_LINE_PX = 2.0, 1.5
#: Numbers on an overview: of the longest findings.
_MOST_NUMBERS = 150
#: Circles of one class: among more, none leads the eye anywhere.
_MOST_RINGS = 300


class Outlined(Protocol):
    """What is drawn of a lesion."""

    @property
    def number(self) -> str:
        """Return its number for a person."""

    @property
    def counts(self) -> bool:
        """Return whether it counts: else it is grey."""

    @property
    def is_point(self) -> bool:
        """Return whether a person marked it by a point."""

    @property
    def review(self) -> LesionReview | None:
        """Return what a person said of it."""

    @property
    def x(self) -> float:
        """Return where its strongest detection lies, in level-0 pixels."""

    @property
    def y(self) -> float:
        """Return the same, downwards."""

    @property
    def length_mm(self) -> float:
        """Return its longest diameter."""

    @property
    def size_class(self) -> SizeClass:
        """Return its class, whose colour it has."""

    @property
    def outline_px(self) -> shapely.Polygon | shapely.MultiPolygon:
        """Return its border, in level-0 pixels; it may be empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a scan knows of a slide's cells.

    Attributes
    ----------
    probabilities
        float32, (rows, columns): what lesions are read from, NaN where nothing was scanned.
    frame
        Where the cells lie.
    tissue
        Where the slide holds tissue, as the scan took it; ``None`` where that is not known, and nothing is hatched.
    """

    probabilities: npt.NDArray[np.float32] = field(repr=False)
    frame: HeatmapFrame
    tissue: TissueMask | None


@dataclass(frozen=True, slots=True)
class _View:
    """The part of a slide that a picture shows: level-0 pixels, and the size of the picture."""

    x: float
    y: float
    width: float
    height: float
    size: Size

    @classmethod
    def of(cls, area: Region, side_px: int) -> _View:
        shrink = side_px / max(area.width, area.height)
        size = Size(max(1, round(area.width * shrink)), max(1, round(area.height * shrink)))
        return cls(area.x, area.y, area.width, area.height, size)

    @property
    def scale(self) -> tuple[float, float]:
        """Return level-0 pixels along one side of a pixel, across and down."""
        return self.width / self.size.width, self.height / self.size.height

    def places(self, corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return where level-0 locations (n, 2) lie, in pixels of the picture."""
        return (corners - (self.x, self.y)) / self.scale

    def middles(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the level-0 x of every column's middle, and the y of every row's."""
        across, down = self.scale
        columns = np.arange(self.size.width, dtype=np.float64) + 0.5
        rows = np.arange(self.size.height, dtype=np.float64) + 0.5
        return self.x + columns * across, self.y + rows * down


def overview_image(
    slide: Slide,
    lesions: Iterable[Outlined],
    found: Found | None = None,
    *,
    heat: bool = False,
    side_px: int = _SIDE_PX,
) -> Picture:
    """Return the whole slide with the outlines of its lesions, their numbers, a scale bar and a legend.

    Tissue that was not scanned is hatched, so that it does not look like benign tissue.

    Parameters
    ----------
    slide
        The open slide; of one with bounds, what lies in them is shown.
    lesions
        To be outlined in the colours of their classes; the smallest are circled as well.
    found
        What the scan knows; ``None`` to hatch nothing.
    heat
        Whether to lay the probabilities over the tissue.
    side_px
        Longest side of the tissue's picture. Scale bar and legend stand below it.

    Returns
    -------
    uint8 of shape (rows, columns, 3)

    Raises
    ------
    SlideError
        If the slide cannot be read.
    """
    view, lesions = _View.of(slide.bounds or Region.of(slide.size), side_px), list(lesions)
    picture, legend = _pixels(slide, view), [Legend(style.label, style.rgb) for style in SIZE_CLASSES.values()]
    if not all(lesion.counts for lesion in lesions):
        legend.append(Legend(_NOT_COUNTED_LABEL, _NOT_COUNTED))
    if found is not None:
        values = _under(view, found)
        if heat:
            picture = _heated(picture, values)
        missing = _not_scanned(view, values, found.tissue)
        if missing.any():
            picture = hatch(picture, missing)
            legend.append(Legend(HATCH_LABEL))
    picture = _outlined(picture, view, sorted(lesions, key=lambda lesion: -lesion.length_mm))
    return with_footer(picture, um_per_px=view.scale[0] * slide.mpp, legend=legend)


def write_overview(picture: Picture, path: Path) -> None:
    """Write a picture as PNG.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(imagecodecs.png_encode(picture, level=6))


def finding_image(slide: Slide, lesion: Outlined) -> tuple[Picture, float]:
    """Return a finding as at the microscope at 20x, with its outline and a scale bar, and the µm of a pixel.

    Of a finding that is longer than the picture, its strongest place is shown. A slide that is coarser than 20x is
    shown at its own resolution.

    Parameters
    ----------
    slide
        The open slide.
    lesion
        The finding.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    """
    frame = slide.frame(max(FINDING_MPP, slide.mpp))
    center = _middle(lesion, _FINDING_PX * frame.scale * _FITS)
    left, top = (round(place / frame.scale - _FINDING_PX / 2) for place in center)
    picture = slide.read(frame, Region(left, top, _FINDING_PX, _FINDING_PX))
    review = lesion.review
    model = None if review is None or not review.is_redrawn or review.found is None else review.found.outline_px
    own = SIZE_CLASSES[lesion.size_class].rgb if lesion.counts else _NOT_COUNTED
    # The model's below the person's.
    for outline, rgb in ((model, _NOT_COUNTED), (lesion.outline_px, own)):
        rings = [] if outline is None else _rings(outline, tolerance_px=frame.scale / 4)
        lines = [ring / frame.scale - (left, top) for ring in rings]
        picture = draw_lines(picture, lines, rgb=rgb, width_px=_FINDING_LINE_PX)
    if lesion.is_point:
        place = (lesion.x / frame.scale - left, lesion.y / frame.scale - top)
        picture = draw_rings(picture, [place], radius_px=_RING_PX, rgb=own)
    return with_scale_bar(picture, um_per_px=frame.effective_mpp), frame.effective_mpp


def _middle(lesion: Outlined, room_px: float) -> tuple[float, float]:
    """Return the middle of a lesion that fits into a square of so many level-0 pixels, else its strongest place."""
    if not lesion.outline_px.is_empty:
        left, top, right, bottom = lesion.outline_px.bounds
        if max(right - left, bottom - top) <= room_px:
            return (left + right) / 2, (top + bottom) / 2
    return lesion.x, lesion.y


def _pixels(slide: Slide, view: _View) -> Picture:
    """Return the tissue, from the coarsest level that is fine enough: of files without one, as they are displayed."""
    index = max((k for k, level in enumerate(slide.levels) if level.downsample <= max(1, min(view.scale))), default=0)
    level = slide.levels[index]
    left, top = view.x / level.downsample, view.y / level.downsample
    right, bottom = left + view.width / level.downsample, top + view.height / level.downsample
    x, y = math.floor(left), math.floor(top)
    part = Region(x, y, math.ceil(right) - x, math.ceil(bottom) - y)
    pixels = Image.fromarray(np.ascontiguousarray(slide.read_level(index, part)))
    box = (left - x, top - y, right - x, bottom - y)
    return np.asarray(pixels.resize((view.size.width, view.size.height), Image.Resampling.BICUBIC, box=box))


def _under(view: _View, found: Found) -> npt.NDArray[np.float64]:
    """Return the probability under every pixel, NaN where nothing was scanned."""
    xs, ys = view.middles()
    frame, (rows, columns) = found.frame, found.probabilities.shape
    step, first = frame.cell_px, frame.cell_center(0, 0)
    across = np.clip(np.rint((xs - first.x) / step), 0, columns - 1).astype(np.intp)
    down = np.clip(np.rint((ys - first.y) / step), 0, rows - 1).astype(np.intp)
    return found.probabilities[np.ix_(down, across)].astype(np.float64)


def _heated(picture: Picture, values: npt.NDArray[np.float64]) -> Picture:
    shown = np.nan_to_num(values, nan=0.0)
    colours = np.stack([np.interp(shown, _STOPS, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = np.interp(shown, _STOPS, _OPACITIES)[..., None]
    heated: Picture = (picture * (1 - opacity) + colours * opacity + 0.5).astype(np.uint8)
    return heated


def _not_scanned(view: _View, values: npt.NDArray[np.float64], tissue: TissueMask | None) -> npt.NDArray[np.bool_]:
    """Return where tissue has no answer: bool, (rows, columns)."""
    if tissue is None:
        return np.zeros(values.shape, np.bool_)
    (xs, ys), (rows, columns) = view.middles(), tissue.mask.shape
    down = np.clip(ys / tissue.frame.downsample, 0, rows - 1).astype(np.intp)
    across = np.clip(xs / tissue.frame.downsample, 0, columns - 1).astype(np.intp)
    missing: npt.NDArray[np.bool_] = tissue.mask[np.ix_(down, across)] & np.isnan(values)
    return missing


def _outlined(picture: Picture, view: _View, lesions: Sequence[Outlined]) -> Picture:
    """Draw outlines, circles around small ones, and the numbers of the longest."""
    tolerance, labels = min(view.scale) / 2, []
    drawn = [lesion for lesion in lesions if lesion.is_point or not lesion.outline_px.is_empty]
    groups = [(_NOT_COUNTED, [lesion for lesion in drawn if not lesion.counts])]
    # The smallest class last, so that nothing covers what is hard to see.
    groups += [
        (style.rgb, [lesion for lesion in drawn if lesion.size_class == name and lesion.counts])
        for name, style in reversed(list(SIZE_CLASSES.items()))
    ]
    for rgb, own in groups:
        rings = [ring for lesion in own for ring in _rings(lesion.outline_px, tolerance_px=tolerance)]
        lines = [view.places(ring) for ring in rings]
        picture = draw_lines(picture, lines, rgb=rgb, width_px=_OVERVIEW_LINE_PX)
        small = [_center(view, lesion) for lesion in own if max(_extent(view, lesion)) < _SMALL_PX][:_MOST_RINGS]
        picture = draw_rings(picture, small, radius_px=_RING_PX, rgb=rgb)
    for lesion in lesions[:_MOST_NUMBERS]:
        if lesion.is_point:
            x, y = _center(view, lesion)
            labels.append(Label(lesion.number, x, y - _RING_PX - 2))
        elif not lesion.outline_px.is_empty:
            corners = view.places(shapely.get_coordinates(lesion.outline_px))
            x, y = corners[corners[:, 1] < corners[:, 1].min() + 1].mean(axis=0)
            if max(_extent(view, lesion)) < _SMALL_PX:
                y -= _RING_PX
            labels.append(Label(lesion.number, x, y - 2))
    return draw_labels(picture, labels)


def _bounds(lesion: Outlined) -> tuple[float, float, float, float]:
    return (lesion.x, lesion.y, lesion.x, lesion.y) if lesion.is_point else lesion.outline_px.bounds


def _center(view: _View, lesion: Outlined) -> tuple[float, float]:
    left, top, right, bottom = _bounds(lesion)
    x, y = view.places(np.array([[(left + right) / 2, (top + bottom) / 2]]))[0]
    return float(x), float(y)


def _extent(view: _View, lesion: Outlined) -> tuple[float, float]:
    left, top, right, bottom = _bounds(lesion)
    across, down = view.scale
    return (right - left) / across, (bottom - top) / down


def _rings(outline: shapely.Polygon | shapely.MultiPolygon, *, tolerance_px: float) -> list[npt.NDArray[np.float64]]:
    """Return the rings of an outline, (n, 2) each, without corners that nobody would see."""
    rings = [ring for polygon in shapely.get_parts(outline) for ring in (polygon.exterior, *polygon.interiors)]
    return [shapely.get_coordinates(ring.simplify(tolerance_px, preserve_topology=True)) for ring in rings]
