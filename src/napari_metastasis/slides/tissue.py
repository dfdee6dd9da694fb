"""Find the tissue on a low-power image, and not glass, pen marks or black borders.

Otsu's threshold (1979), as Lin et al. 2019 (II-C) use it, taken on colour: glass and black borders are grey, pens have
hues that haematoxylin and eosin have not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Region
from napari_metastasis.settings import SlideSettings, TissueSettings
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.slide import Slide

__all__ = ["TissueMask", "classify_tissue", "tissue_mask"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

_DEFAULTS = TissueSettings()
_SLIDES = SlideSettings()

#: Side of the pieces in which the low-power image is read, in its pixels.
_PIECE_PX = 128

# Grey levels of 255. A pixel whose every channel is above _GLASS may be glass; one whose every channel is below _BLACK
# holds no light at all, and its hue is noise.
_GLASS, _BLACK = 190.0, 50.0
#: Green darker than red and blue by fewer grey levels is noise; the palest tissue differs by 10.
_MIN_CONTRAST = 5.0
#: Without this share of light pixels the image shows no glass, and white is taken for it.
_MIN_GLASS_SHARE = 0.005
_WHITE = (245.0, 245.0, 245.0)

# Natural optical densities. Noise, JPEG and dust on glass stay below 0.03; the palest eosin seen reaches 0.07.
_MIN_STAIN, _STRONG_STAIN = 0.04, 0.16
#: Blue ink absorbs red more than green; haematoxylin at its bluest absorbs both alike.
_BLUE_INK = 1.15
# Red ink lets red through and stops blue nearly as well as green; eosin stops less blue (0.5 to 0.63 of green) and more
# red (over 0.2 of green), measured on slides with and without pen marks.
_INK_RED, _INK_BLUE = 0.22, 0.66
#: A stroke's core transmits less than 37 % of green (exp(-1)); eosin is seldom that dense at low power.
_INK_DENSITY = 1.0
#: Share of a stroke that is core. The rest is where the ink thins out.
_INK_CORE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class TissueMask:
    """Where a slide holds tissue.

    Attributes
    ----------
    mask
        bool of shape (rows, columns): tissue, with its margin.
    frame
        Where the mask's pixels lie on the slide.
    fraction
        Share of the slide's area that is tissue, before the margin was added.
    """

    mask: BoolArray
    frame: LevelFrame
    fraction: float

    def over(self, frame: HeatmapFrame) -> BoolArray:
        """Return which cells of a heatmap hold any tissue: bool of shape (rows, columns)."""
        # A rectangle holds tissue if any of its rows does: one axis after the other, in bytes. An integral image takes
        # 24 bytes a cell, and a second for the ten million cells of a large slide.
        rows = _any_in_spans(self.mask, *self._spans(frame, along_x=False))
        return np.ascontiguousarray(_any_in_spans(rows.T, *self._spans(frame, along_x=True)).T)

    def _spans(self, frame: HeatmapFrame, *, along_x: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the first and the past-the-last mask index of every cell along one axis."""
        count, length = (frame.cells.width, self.mask.shape[1]) if along_x else (frame.cells.height, self.mask.shape[0])
        corner = frame.cell_corner(0, 0)
        low = ((corner.x if along_x else corner.y) + np.arange(count) * frame.cell_px) / self.frame.downsample
        high = low + frame.cell_px / self.frame.downsample
        first = np.clip(np.floor(low + 1e-9), 0, length).astype(np.int64)
        last = np.clip(np.ceil(high - 1e-9), first, length).astype(np.int64)
        return first, last


def _any_in_spans(mask: BoolArray, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> BoolArray:
    """Return for each span ``first .. last`` of rows whether a column holds any: bool of shape (spans, columns)."""
    found = np.zeros((len(first), mask.shape[1]), np.bool_)
    for step in range(int((last - first).max(initial=0))):
        at = first + step
        reaches = at < last
        found[reaches] |= mask[at[reaches]]
    return found


@overload
def tissue_mask(
    slide: Slide, settings: TissueSettings = ..., *, threads: int = ..., should_stop: None = ...
) -> TissueMask: ...


@overload
def tissue_mask(
    slide: Slide, settings: TissueSettings = ..., *, threads: int = ..., should_stop: Callable[[], bool] | None
) -> TissueMask | None: ...


def tissue_mask(
    slide: Slide,
    settings: TissueSettings = _DEFAULTS,
    *,
    threads: int = _SLIDES.threads,
    should_stop: Callable[[], bool] | None = None,
) -> TissueMask | None:
    """Find the tissue of a slide.

    Parameters
    ----------
    slide
        An open slide.
    settings
        Threshold, margin and smallest object.
    threads
        Threads that decode.
    should_stop
        Called between pieces; true stops.

    Returns
    -------
    The mask, or ``None`` if stopped.
    """
    model = slide.frame(settings.mpp)
    pixels = _read(slide, model, threads=threads, should_stop=should_stop)
    if pixels is None:
        return None
    return _cleaned(classify_tissue(pixels), LevelFrame(downsample=model.scale, mpp=slide.mpp), settings)


def classify_tissue(pixels: UInt8Array) -> BoolArray:
    """Return which pixels of a low-power image are tissue, before any clean-up.

    Haematoxylin and eosin both absorb green more than red and blue. Otsu's threshold is therefore taken on the optical
    density of green less the mean of the other two: 0 for glass, dust, shadows and black borders, below 0 for green and
    blue pens. Red pens differ from eosin in that they absorb blue almost as strongly as green.

    Parameters
    ----------
    pixels
        uint8 of shape (rows, columns, 3), at about 16 µm per pixel.
    """
    rgb = ndimage.gaussian_filter(pixels.astype(np.float32), sigma=(1, 1, 0))
    density = _optical_density(rgb)
    stain = density[..., 1] - (density[..., 0] + density[..., 2]) / 2
    # A few grey levels are noise, however dense: in black borders a difference of one already looks stained.
    contrast = (rgb[..., 0] + rgb[..., 2]) / 2 - rgb[..., 1]
    stain[(contrast < _MIN_CONTRAST) | (rgb.max(axis=2) < _BLACK)] = 0
    stain[density[..., 0] > _BLUE_INK * density[..., 1]] = 0
    stain[_red_pen(density)] = 0
    # Clipped, so that dark nuclei do not draw the threshold above pale tissue.
    clipped = np.clip(stain, 0, _STRONG_STAIN)
    otsu = float(threshold_otsu(clipped)) if np.ptp(clipped) > 0 else 0.0
    return _with_covered_tissue(stain > max(otsu, _MIN_STAIN), rgb)


def _optical_density(rgb: FloatArray) -> FloatArray:
    """Return the density of each channel against the slide's own glass, which may be tinted or grey."""
    light = rgb[rgb.min(axis=2) > _GLASS]
    glass = np.median(light, axis=0) if len(light) >= _MIN_GLASS_SHARE * rgb.shape[0] * rgb.shape[1] else _WHITE
    return -np.log((rgb + 1) / (np.asarray(glass, np.float32) + 1))


def _red_pen(density: FloatArray) -> BoolArray:
    """Return the strokes of a red pen: pixels connected to ink that is redder and denser than eosin."""
    red, green, blue = np.moveaxis(density, 2, 0)
    reddish = (blue > _INK_BLUE * green) & (red < _INK_RED * green) & (green > _MIN_STAIN)
    core = reddish & (green > _INK_DENSITY)
    labels, count = ndimage.label(reddish)
    total = np.bincount(labels.ravel(), minlength=count + 1)
    dense = np.bincount(labels[core], minlength=count + 1)
    stroke = dense >= _INK_CORE_SHARE * total
    stroke[0] = False
    found: BoolArray = stroke[labels]
    # Where most stained pixels look like ink, they are this laboratory's stain.
    return found if found.sum() < (green > _MIN_STAIN).sum() / 2 else np.zeros_like(found)


def _with_covered_tissue(tissue: BoolArray, rgb: FloatArray) -> BoolArray:
    """Return tissue with the holes that are not glass: black ink on tissue, blood, folds, pigment."""
    labels, count = ndimage.label(ndimage.binary_fill_holes(tissue) & ~tissue)
    if count == 0:
        return tissue
    light = ndimage.mean(rgb.min(axis=2) > _GLASS, labels, np.arange(count + 1))
    covered = np.nan_to_num(light, nan=1.0) < 0.5
    covered[0] = False
    return tissue | covered[labels]


def _cleaned(tissue: BoolArray, frame: LevelFrame, settings: TissueSettings) -> TissueMask:
    """Drop specks, and add the margin."""
    um = frame.downsample * frame.mpp
    labels, count = ndimage.label(tissue, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1) * um**2
    keep = areas >= math.pi / 4 * settings.min_object_um**2
    keep[0] = False
    kept: BoolArray = keep[labels]
    fraction = float(kept.mean())
    if kept.any() and settings.margin_um > 0:
        kept = ndimage.distance_transform_edt(~kept) * um <= settings.margin_um
    return TissueMask(mask=kept, frame=frame, fraction=fraction)


def _read(
    slide: Slide, frame: ModelFrame, *, threads: int, should_stop: Callable[[], bool] | None
) -> UInt8Array | None:
    """Return the whole slide at low power, read in pieces; ``None`` if stopped."""
    result = np.empty((*frame.size.shape, 3), np.uint8)
    pieces = list(Region.of(frame.size).split(_PIECE_PX))

    def read(piece: Region) -> bool:
        if should_stop is not None and should_stop():
            return False
        result[piece.slices] = slide.read(frame, piece)
        return True

    with ThreadPoolExecutor(threads) as pool:
        return result if all(pool.map(read, pieces)) else None
