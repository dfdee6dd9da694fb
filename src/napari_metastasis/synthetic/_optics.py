"""From amounts of stain to the light that a scanner sees, with folds, ink, dust and blur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic._matrix import Grain
from napari_metastasis.synthetic._noise import Floats, smoothstep
from napari_metastasis.synthetic._parts import Layout, Stroke
from napari_metastasis.synthetic._window import Window

__all__ = ["Stain", "develop", "stroke_distance"]

#: Optical densities (natural logarithm, unit length) of hematoxylin and eosin, and the light of empty glass: the mean
#: directions of dark and of pale pixels of PatchCamelyon patches, one set for either hospital of CAMELYON16.
_STAINS = {
    "rose": ((0.490, 0.715, 0.500), (0.240, 0.830, 0.503), (247.0, 245.0, 246.0)),
    "violet": ((0.500, 0.812, 0.300), (0.300, 0.925, 0.230), (233.0, 226.0, 237.0)),
}
#: Light that passes each pen, at full pressure.
_INKS = np.array([(40, 90, 190), (30, 120, 70), (35, 35, 40), (185, 40, 45)], dtype=np.float32) / 255
#: Standard deviations of the scanner's optics, and of an area out of focus.
_SHARP_UM = 0.3
_BLURRED_UM = 1.1


@dataclass(frozen=True, slots=True)
class Stain:
    """One slide's colours.

    Attributes
    ----------
    vectors
        (2, 3) float32 optical density (natural logarithm) of a unit of hematoxylin and of eosin.
    white
        (3,) float32 light of empty glass, 0 to 255.
    sharpen
        Share of the scanner's own sharpening.
    """

    vectors: Floats
    white: Floats
    sharpen: float

    @classmethod
    def from_settings(cls, settings: SyntheticSettings) -> Stain:
        """Return the stain of a slide: its hospital's, changed by the seed."""
        rng = np.random.default_rng((settings.seed, 41))
        chosen = ("rose", "violet")[int(rng.integers(2))] if settings.stain == "auto" else settings.stain
        hematoxylin, eosin, white = (np.array(values) for values in _STAINS[chosen])
        vary = settings.stain_variation
        vectors = np.stack([hematoxylin, eosin]) * np.exp(0.035 * vary * rng.standard_normal((2, 3)))
        vectors *= np.exp(0.09 * vary * rng.standard_normal((2, 1)))
        # Lamps differ in brightness, hardly in colour: scanners are balanced on empty glass.
        white = np.minimum(white + vary * (2.0 * rng.standard_normal() + 0.5 * rng.standard_normal(3)), 254)
        return cls(vectors.astype(np.float32), white.astype(np.float32), 0.55 if chosen == "rose" else 0.3)


def stroke_distance(stroke: Stroke, x: Floats, y: Floats) -> Floats:
    """Return the distance of (x, y) from a stroke's line, in µm."""
    best = np.full(x.shape, np.inf, np.float32)
    for start, end in zip(stroke.points[:-1], stroke.points[1:], strict=True):
        step = (end - start).astype(np.float32)
        dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
        share = np.clip((dx * step[0] + dy * step[1]) / np.float32(step @ step), 0, 1)
        best = np.minimum(best, np.hypot(dx - share * step[0], dy - share * step[1]))
    return best


def develop(
    hematoxylin: Floats, eosin: Floats, stain: Stain, layout: Layout, grain: Grain, window: Window
) -> NDArray[np.uint8]:
    """Return what a scanner makes of a window, (h, w, 3) uint8.

    Parameters
    ----------
    hematoxylin, eosin
        (h, w) amounts of stain; changed in place.
    stain, layout, grain
        Of the slide.
    window
        Where the pixels lie.
    """
    _crease(hematoxylin, eosin, layout, window)
    blurred = _out_of_focus(layout, window)
    light = (
        _through(hematoxylin, eosin, stain, blurred, window.mpp)
        if eosin.any()
        else np.ones((*eosin.shape, 3), np.float32)
    )
    light *= _illumination(window)[..., None] * stain.white
    _ink(light, layout, window, grain)
    _specks(light, layout, window)
    shape = (eosin.shape[0], eosin.shape[1])
    noise = np.stack([grain.tile(grain.fine, window.x, window.y, shape, 7 + channel) for channel in range(3)], axis=-1)
    light += 1.1 * noise
    return light.clip(0, 255).round().astype(np.uint8)


def _through(hematoxylin: Floats, eosin: Floats, stain: Stain, blurred: Floats | None, mpp: float) -> Floats:
    """Return the light that passes the section, by Beer and Lambert, as a scanner focuses and sharpens it."""
    density = np.stack([hematoxylin, eosin])
    soft = ndimage.gaussian_filter(density, (0, _SHARP_UM / mpp, _SHARP_UM / mpp), mode="nearest", truncate=3)
    if blurred is not None:
        sigma = _BLURRED_UM / mpp
        soft += blurred * (ndimage.gaussian_filter(density, (0, sigma, sigma), mode="nearest", truncate=3) - soft)
    light = np.stack([np.exp(-(soft[0] * h + soft[1] * e)) for h, e in stain.vectors.T], axis=-1)
    if stain.sharpen:
        sigma = 2.2 * _SHARP_UM / mpp
        glow = ndimage.gaussian_filter(light, (sigma, sigma, 0), mode="nearest", truncate=3)
        amount = stain.sharpen if blurred is None else stain.sharpen * (1 - blurred[..., None])
        light += amount * (light - glow)
    return light


def _crease(hematoxylin: Floats, eosin: Floats, layout: Layout, window: Window) -> None:
    """Double the section at folds, and take it away at tears."""
    for strokes, tear in ((layout.folds, False), (layout.tears, True)):
        for stroke in strokes:
            rim = 2 * stroke.half_width_um
            if not window.reaches(stroke.points.min(axis=0) - rim, stroke.points.max(axis=0) + rim):
                continue
            distance = window.full(stroke_distance(stroke, window.coarse_x, window.coarse_y))
            cover = smoothstep(distance, stroke.half_width_um + 1.5, stroke.half_width_um - 1.5)
            factor = 1 - cover if tear else 1 + 0.8 * cover
            hematoxylin *= factor
            eosin *= factor


def _out_of_focus(layout: Layout, window: Window) -> Floats | None:
    """Return how far every pixel is out of focus, 0 to 1, or None where all is sharp."""
    total: Floats | None = None
    for blob in layout.blurs:
        middle, rim = np.array([blob.x, blob.y]), blob.reach
        if window.reaches(middle - rim, middle + rim):
            cover = smoothstep(window.full(blob.depth(window.coarse_x, window.coarse_y)), 0, 120)
            total = cover if total is None else np.maximum(total, cover)
    return total if total is not None and total.any() else None


def _illumination(window: Window) -> Floats:
    """Return a gain that drifts by a percent or two over the slide."""
    drift = np.sin(window.coarse_x / 1900) + np.sin(window.coarse_y / 1500 + window.coarse_x / 4200)
    return window.full((1 + 0.006 * drift).astype(np.float32))


def _ink(light: Floats, layout: Layout, window: Window, grain: Grain) -> None:
    """Draw the pen marks on the cover slip: translucent, streaked along the stroke, with darker edges."""
    for stroke in layout.pens:
        rim = 1.5 * stroke.half_width_um
        if not window.reaches(stroke.points.min(axis=0) - rim, stroke.points.max(axis=0) + rim):
            continue
        distance = window.full(stroke_distance(stroke, window.coarse_x, window.coarse_y))
        rough = 1.5 * grain.tile(grain.coarse, window.x, window.y, distance.shape, 5)
        cover = smoothstep(distance + rough, stroke.half_width_um, stroke.half_width_um - 14)
        if not cover.any():
            continue
        streak = grain.along(distance / 9, window.full(window.coarse_x + window.coarse_y) / 60)
        edge = smoothstep(distance, stroke.half_width_um - 34, stroke.half_width_um - 10)
        amount = cover * np.clip(0.78 + 0.1 * streak + 0.2 * edge, 0, 1.1)
        light *= np.power(_INKS[stroke.colour], amount[..., None])


def _specks(light: Floats, layout: Layout, window: Window) -> None:
    """Draw dust: small dark specks, none of them in focus."""
    rows, columns = light.shape[:2]
    for px, py, radius in layout.dust.tolist():
        rim = 3 * radius
        if not window.reaches(np.array([px - rim, py - rim]), np.array([px + rim, py + rim])):
            continue
        y, x = np.ogrid[0:rows, 0:columns]
        dx = (x + window.x + 0.5) * np.float32(window.mpp) - np.float32(px)
        dy = (y + window.y + 0.5) * np.float32(window.mpp) - np.float32(py)
        lean = np.float32(px % 1.0)
        distance = np.sqrt(np.square(dx + lean * dy) + np.square(dy * (1 + lean)))
        light *= 1 - 0.75 * smoothstep(distance.astype(np.float32), 1.2 * radius, 0.3 * radius)[..., None]
