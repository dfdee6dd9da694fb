"""Find the tissue on a low-power image, and not glass, pen marks or black borders.

Otsu's threshold (1979), as Lin et al. 2019 (II-C) use it, taken on colour: glass and black borders are grey, pens have
hues that haematoxylin and eosin have not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Region, sparse_zeros
from napari_metastasis.settings import SlideSettings, TissueSettings
from napari_metastasis.slides.backend import UInt8Array
from napari_metastasis.slides.slide import Slide

__all__ = ["TissueMask", "blue_ink", "classify_tissue", "tissue_mask"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

_DEFAULTS = TissueSettings()
_SLIDES = SlideSettings()

#: Side of the pieces in which the low-power image is read, in its pixels.
_PIECE_PX = 128
#: Rows of the low-power image, or of cells, that are worked through at once: of the whole image only bytes are held.
_STRIP = 256
#: How far the low-pass before classifying reaches, in pixels: where SciPy cuts off a Gaussian of 1 px.
_REACH_PX = 4

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
# Where it lets more blue through than haematoxylin does, less of that tells it: of tissue of PCam, of CAMELYON17's five
# centres and of slides without pens at most one pixel in ten thousand is as blue.
_CLEAR_BLUE_RED, _CLEAR_BLUE = 1.05, 0.5
# Red ink lets red through and stops blue nearly as well as green; eosin stops less blue (0.5 to 0.63 of green) and more
# red (over 0.2 of green), measured on slides with and without pen marks.
_INK_RED, _INK_BLUE = 0.22, 0.66
# Dark red ink absorbs more of red, and blue all but as well as green.
_DARK_RED, _DARK_BLUE = 0.3, 0.9
#: A stroke's core transmits less than 37 % of green (exp(-1)); eosin is seldom that dense at low power.
_INK_DENSITY = 1.0
#: Share of a stroke that is core. The rest is where the ink thins out.
_INK_CORE_SHARE = 0.1
# At a stroke's rim a pixel is part ink and part glass, which raises its red towards 0.45 of green; its blue stays near
# green; red cells seldom reach 0.8. Only so far from a stroke is that its rim: what the scanner and the low-pass blur.
_RIM_RED, _RIM_BLUE, _RIM_PX = 0.45, 0.8, 4


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
        top, bottom = self._spans(frame, along_x=False)
        left, right = self._spans(frame, along_x=True)
        found = sparse_zeros(frame.cells.shape)
        for strip in _strips(len(top)):
            first, last = top[strip], bottom[strip]
            if self.mask[first[0] : last[-1]].any():
                # A rectangle holds tissue if any of its rows does: one axis after the other, in bytes. An integral
                # image takes 24 bytes a cell, and a second for the ten million cells of a large slide.
                rows = _any_in_spans(self.mask, first, last)
                np.copyto(found[strip], True, where=_any_in_spans(rows.T, left, right).T)
        return found

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
    light = np.empty(pixels.shape[:2], np.bool_)
    for rows in _strips(len(pixels)):
        light[rows] = _smoothed(pixels, rows).min(axis=2) > _GLASS
    glass = _glass(pixels, light)
    stain = np.empty(light.shape, np.float32)
    reddish, core, rim = np.empty_like(light), np.empty_like(light), np.empty_like(light)
    dyed = 0
    for rows in _strips(len(pixels)):
        rgb = _smoothed(pixels, rows)
        density = -np.log((rgb + 1) / (glass + 1))
        stain[rows] = _stain(rgb, density)
        reddish[rows], core[rows], rim[rows] = _red_ink(density)
        dyed += int(np.count_nonzero(density[..., 1] > _MIN_STAIN))
    stain[_red_pen(reddish, core, rim, dyed)] = 0
    otsu = float(threshold_otsu(stain)) if np.ptp(stain) > 0 else 0.0
    return _with_covered_tissue(stain > max(otsu, _MIN_STAIN), light)


def _strips(count: int) -> Iterator[slice]:
    """Yield the slices of strips of rows."""
    return (slice(first, min(first + _STRIP, count)) for first in range(0, count, _STRIP))


def _smoothed(pixels: UInt8Array, rows: slice) -> FloatArray:
    """Return some rows of an image without its noise, the same wherever they are cut."""
    first = max(0, rows.start - _REACH_PX)
    near = pixels[first : rows.stop + _REACH_PX].astype(np.float32)
    smoothed: FloatArray = ndimage.gaussian_filter(near, sigma=(1, 1, 0)[: near.ndim], radius=_REACH_PX)
    return smoothed[rows.start - first : rows.stop - first]


def _glass(pixels: UInt8Array, light: BoolArray) -> FloatArray:
    """Return the colour of the slide's own glass, which may be tinted or grey: the median of the light pixels."""
    count = int(np.count_nonzero(light))
    if count < _MIN_GLASS_SHARE * light.size:
        return np.asarray(_WHITE, np.float32)
    medians = []
    for channel in range(3):
        values, filled = np.empty(count, np.float32), 0
        for rows in _strips(len(pixels)):
            found = _smoothed(pixels[..., channel], rows)[light[rows]]
            values[filled : filled + len(found)] = found
            filled += len(found)
        medians.append(np.median(values, overwrite_input=True))
    return np.asarray(medians, np.float32)


def _stain(rgb: FloatArray, density: FloatArray) -> FloatArray:
    """Return the density of green less the mean of the other two, 0 where it is no stain of tissue."""
    stain = density[..., 1] - (density[..., 0] + density[..., 2]) / 2
    # A few grey levels are noise, however dense: in black borders a difference of one already looks stained.
    contrast = (rgb[..., 0] + rgb[..., 2]) / 2 - rgb[..., 1]
    stain[(contrast < _MIN_CONTRAST) | (rgb.max(axis=2) < _BLACK)] = 0
    stain[blue_ink(density)] = 0
    # Clipped, so that dark nuclei do not draw the threshold above pale tissue.
    return np.clip(stain, 0, _STRONG_STAIN)


def blue_ink(density: FloatArray) -> BoolArray:
    """Return where a colour is that of blue or green ink, which haematoxylin never has: bool (…).

    Parameters
    ----------
    density
        Optical density (natural logarithm), (…, 3).
    """
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    clear_blue = (red > _CLEAR_BLUE_RED * green) & (blue < _CLEAR_BLUE * green) & (green > _STRONG_STAIN)
    return np.asarray((red > _BLUE_INK * green) | clear_blue)


def _red_ink(density: FloatArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return where the colour is redder than eosin, where it is denser as well, and where it may be a stroke's rim."""
    red, green, blue = np.moveaxis(density, 2, 0)
    dyed = green > _MIN_STAIN
    reddish = (blue > _INK_BLUE * green) & (red < _INK_RED * green) & dyed
    reddish |= (blue > _DARK_BLUE * green) & (red < _DARK_RED * green) & dyed
    rim = (blue > _RIM_BLUE * green) & (red < _RIM_RED * green) & dyed
    return reddish, reddish & (green > _INK_DENSITY), rim


def _red_pen(reddish: BoolArray, core: BoolArray, rim: BoolArray, dyed: int) -> BoolArray:
    """Return the strokes of a red pen: pixels connected to ink that is redder and denser than eosin, and their rims.

    Parameters
    ----------
    reddish, core, rim
        From :func:`_red_ink`.
    dyed
        Pixels that look stained.
    """
    found = np.zeros_like(reddish)
    box = _box(reddish, margin=_RIM_PX)
    labels, count = ndimage.label(reddish[box])
    total = np.bincount(labels[reddish[box]], minlength=count + 1)
    dense = np.bincount(labels[core[box]], minlength=count + 1)
    stroke = dense >= _INK_CORE_SHARE * total
    stroke[0] = False
    strokes = stroke[labels]
    if strokes.any():
        found[box] = ndimage.binary_dilation(strokes, np.ones((3, 3)), _RIM_PX, mask=strokes | rim[box])
    # Where most stained pixels look like ink, they are this laboratory's stain.
    return found if np.count_nonzero(found) < dyed / 2 else np.zeros_like(found)


def _with_covered_tissue(tissue: BoolArray, light: BoolArray) -> BoolArray:
    """Return tissue with the holes that are not glass: black ink on tissue, blood, folds, pigment.

    A ring that is nowhere wider than the coloured fringe of a pen's stroke encloses ink, and no tissue.

    Parameters
    ----------
    tissue
        Where there is tissue.
    light
        Where there may be glass.
    """
    # With a border, through which what is outside is connected.
    box = _box(tissue, margin=1)
    inside = tissue[box]
    wide = ndimage.binary_propagation(ndimage.binary_erosion(inside, np.ones((3, 3))), mask=inside)
    holes = ndimage.binary_fill_holes(wide) & ~inside
    labels, count = ndimage.label(holes)
    total = np.bincount(labels[holes], minlength=count + 1)
    glass = np.bincount(labels[holes & light[box]], minlength=count + 1)
    covered = 2 * glass < total
    whole = tissue.copy()
    whole[box] |= covered[labels]
    return whole


def _box(mask: BoolArray, *, margin: int = 0) -> tuple[slice, slice]:
    """Return the smallest box that holds every true pixel, and a margin of so many; empty where there is none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)


def _cleaned(tissue: BoolArray, frame: LevelFrame, settings: TissueSettings) -> TissueMask:
    """Drop specks, and add the margin."""
    um = frame.downsample * frame.mpp
    box = _box(tissue)
    labels, count = ndimage.label(tissue[box], structure=np.ones((3, 3)))
    areas = np.bincount(labels[tissue[box]], minlength=count + 1) * um**2
    keep = areas >= math.pi / 4 * settings.min_object_um**2
    keep[0] = False
    kept = np.zeros_like(tissue)
    kept[box] = keep[labels]
    fraction = float(kept.mean())
    if settings.margin_um > 0:
        kept = _grown(kept, um=um, margin_um=settings.margin_um)
    return TissueMask(mask=kept, frame=frame, fraction=fraction)


def _grown(mask: BoolArray, *, um: float, margin_um: float) -> BoolArray:
    """Return every pixel within a margin of a mask whose pixels are ``um`` wide."""
    grown = np.zeros_like(mask)
    reach = math.ceil(margin_um / um)
    rows, columns = _box(mask, margin=reach)
    rows = slice(*rows.indices(len(mask))[:2])
    # What lies further than the margin decides nothing, so that strips see enough.
    step = max(_STRIP, reach)
    for first in range(rows.start, rows.stop, step):
        last, above = min(first + step, rows.stop), max(0, first - reach)
        near = mask[above : last + reach, columns]
        if near.any():
            distance = ndimage.distance_transform_edt(~near)[first - above : last - above]
            grown[first:last, columns] = distance * um <= margin_um
    return grown


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
        found = all(pool.map(read, pieces))
    # What is read next lies on other levels: what is held here would only take room.
    slide.forget()
    return result if found else None
