"""Haematoxylin told from eosin, and both brought to a common look: Macenko et al. 2009, as Pearce 2017 (3.3) uses it.

Light that falls on a section is absorbed by its dyes (Beer-Lambert): I = I0 · exp(-M·c), with a column of M for each
dye, and its concentrations c. The densities of all pixels lie between two directions, of pure haematoxylin and of pure
eosin: these are found as the extreme angles in the plane in which the densities vary most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import StainError
from napari_metastasis.settings import PUBLISHED_STAINS, StainSettings
from napari_metastasis.slides.stains.density import UInt8Array, tissue_pixels
from napari_metastasis.slides.tissue import blue_ink

if TYPE_CHECKING:
    from napari_metastasis.slides.slide import Slide
    from napari_metastasis.slides.tissue import TissueMask

__all__ = [
    "TARGET",
    "VIEWS",
    "StainMatrix",
    "StainView",
    "concentrations",
    "middle_stain_matrix",
    "pooled_stain_matrix",
    "slide_stain_matrix",
    "stain_matrix",
    "stain_picture",
]

FloatArray = npt.NDArray[np.float32]
Color = tuple[float, float, float]
#: What a picture shows: one dye alone, or both as if they were the target's.
StainView = Literal["haematoxylin", "eosin", "normalised"]
VIEWS: tuple[StainView, ...] = ("haematoxylin", "eosin", "normalised")

_DEFAULTS = StainSettings()
#: The columns of the stain matrix that a picture is made of.
_COLUMNS = {"haematoxylin": slice(0, 1), "eosin": slice(1, 2), "normalised": slice(0, 2)}
_LOOK = "look at the slide as it is"
#: Fewer stained pixels tell nothing of percentiles.
_FEWEST_PX = 500


@dataclass(frozen=True, slots=True)
class StainMatrix:
    """The two dyes of a slide.

    Attributes
    ----------
    haematoxylin, eosin
        Optical density (natural logarithm) of red, green and blue in a unit of each: vectors of length 1.
    maxima
        Concentrations of haematoxylin and eosin that one pixel in a hundred exceeds.
    """

    haematoxylin: Color
    eosin: Color
    maxima: tuple[float, float]

    @property
    def array(self) -> npt.NDArray[np.float64]:
        """Return the matrix M of the paper, (3, 2): red, green, blue by haematoxylin, eosin."""
        return np.array([self.haematoxylin, self.eosin]).T

    @property
    def numbers(self) -> tuple[float, ...]:
        """Return haematoxylin, eosin and their maxima as eight numbers, as they are recorded."""
        return tuple(round(float(value), 4) for value in (*self.haematoxylin, *self.eosin, *self.maxima))

    @classmethod
    def of_numbers(cls, numbers: Sequence[float]) -> Self:
        """Return the dyes of eight numbers."""
        one, two, three, four, five, six, seven, eight = numbers
        return cls((one, two, three), (four, five, six), (seven, eight))

    @property
    def angle_deg(self) -> float:
        """Return the angle between both dyes, in degrees."""
        return _angle_deg(self.haematoxylin, self.eosin)

    def differs_deg(self, other: Self) -> float:
        """Return the larger angle between the same dye of this and of another matrix, in degrees."""
        pairs = ((self.haematoxylin, other.haematoxylin), (self.eosin, other.eosin))
        return max(_angle_deg(one, another) for one, another in pairs)


#: What pictures are normalised to: the slide that the published code takes as its reference.
TARGET = StainMatrix.of_numbers(PUBLISHED_STAINS)


def stain_matrix(
    pixels: UInt8Array,
    settings: StainSettings = _DEFAULTS,
    *,
    remedy: str = "take the stains of the whole slide",
) -> StainMatrix:
    """Return the dyes that pixels are stained with (Macenko et al. 2009, section 2).

    Parameters
    ----------
    pixels
        uint8 (…, 3), red, green, blue.
    settings
        The method's numbers.
    remedy
        What to do where two dyes cannot be told.

    Raises
    ------
    StainError
        If hardly anything is stained, or all of it with one dye, so that two cannot be told apart.
    """
    density = _density(pixels.reshape(-1, 3), settings.light).astype(np.float64)
    stained = density[(density >= settings.min_density).all(axis=1)]
    if len(stained) < _FEWEST_PX:
        raise StainError(
            f"expected at least {_FEWEST_PX} stained pixels to tell haematoxylin from eosin, got {len(stained)}; "
            f"{remedy}"
        )
    # In rising order: the last two span the plane that holds nearly all of the densities' variation.
    axes = np.linalg.eigh(np.cov(stained.T))[1][:, :0:-1]
    # An axis may come out with either sign: densities are positive, so that angles lie around 0.
    axes[:, 0] *= 1 if axes[:, 0].sum() >= 0 else -1
    plane = stained @ axes
    angles = np.arctan2(plane[:, 1], plane[:, 0])
    extremes = np.percentile(angles, [settings.tail_percent, 100 - settings.tail_percent])
    dyes = [tuple((axes @ (np.cos(angle), np.sin(angle))).tolist()) for angle in extremes]
    # Haematoxylin absorbs more red.
    eosin, haematoxylin = sorted(dyes)
    apart = _angle_deg(haematoxylin, eosin)
    if apart < settings.min_angle_deg:
        raise StainError(
            f"expected haematoxylin and eosin, got colours that lie {apart:.1f}° apart, as those of one dye do; "
            f"{remedy}"
        )
    found = StainMatrix(haematoxylin, eosin, (1.0, 1.0))
    amounts = density @ _unmixing(found)
    maxima = np.percentile(amounts, settings.maximum_percent, axis=0)
    return StainMatrix(haematoxylin, eosin, (float(maxima[0]), float(maxima[1])))


def slide_stain_matrix(
    slide: Slide, tissue: TissueMask, settings: StainSettings = _DEFAULTS, *, remedy: str = _LOOK
) -> StainMatrix:
    """Return the dyes of a slide, from its tissue at low power; the same for the same slide, tissue and settings.

    Parameters
    ----------
    slide, tissue
        The open slide, and where its tissue lies.
    settings
        The method's numbers.
    remedy
        What to do where two dyes cannot be told.

    Raises
    ------
    StainError
        If the slide holds too little stained tissue, or one dye alone.
    CorruptSlideError
        If a tile cannot be read or decoded.
    """
    pixels = tissue_pixels(slide, slide.frame(max(slide.mpp, settings.mpp)), tissue)
    if pixels is None:
        raise StainError(f"expected tissue on {slide.name} to tell its stains, got none; {remedy}")
    return pooled_stain_matrix(pixels, settings, remedy=remedy)


def pooled_stain_matrix(pixels: UInt8Array, settings: StainSettings = _DEFAULTS, *, remedy: str) -> StainMatrix:
    """Return the dyes of pixels from all over a slide, or a set of patches; ink and glass are left out.

    Parameters
    ----------
    pixels
        uint8 (…, 3).
    settings
        The method's numbers; at most ``most_px`` stained pixels are drawn, by ``seed``.
    remedy
        What to do where two dyes cannot be told.

    Raises
    ------
    StainError
        If hardly anything is stained, or all of it with one dye.
    """
    pixels = pixels.reshape(-1, 3)
    # Glass between the tissue would lower the concentrations that one pixel in a hundred exceeds.
    density = _density(pixels, settings.light)
    # Ink at a specimen's cut edges is bluer than any haematoxylin, and would be taken for it.
    stained = pixels[(density >= settings.min_density).all(axis=1) & ~blue_ink(density)]
    if len(stained) > settings.most_px:
        drawn = np.random.default_rng(settings.seed).choice(len(stained), settings.most_px, replace=False)
        stained = stained[drawn]
    return stain_matrix(stained, settings, remedy=remedy)


def middle_stain_matrix(
    pictures: Iterable[UInt8Array], settings: StainSettings = _DEFAULTS, *, remedy: str
) -> StainMatrix:
    """Return the dyes in the middle of those of single pictures, number by number, of many slides.

    Their pixels together would tell the dyes of none: the extreme angles are those of different slides.

    Parameters
    ----------
    pictures
        uint8 (…, 3) each. Those whose dyes cannot be told are passed over.
    settings
        The method's numbers.
    remedy
        What to do where the dyes of half of them cannot be told.

    Raises
    ------
    StainError
        If they cannot.
    """
    told, refused = [], 0
    for picture in pictures:
        try:
            told.append(pooled_stain_matrix(picture, settings, remedy=remedy).numbers)
        except StainError:
            refused += 1
    if len(told) <= refused:
        raise StainError(
            f"expected pictures of which most are stained with haematoxylin and eosin, got {len(told)} of "
            f"{len(told) + refused} on which these can be told apart; {remedy}"
        )
    return StainMatrix.of_numbers(np.median(told, axis=0).tolist())


def concentrations(pixels: UInt8Array, stains: StainMatrix, *, light: float = _DEFAULTS.light) -> FloatArray:
    """Return how much haematoxylin and eosin each pixel holds, float32 (…, 2): the least-squares c of OD = M·c.

    Parameters
    ----------
    pixels
        uint8 (…, 3).
    stains
        Of the slide.
    light
        Grey level of light that went through nothing, I0.
    """
    found: FloatArray = _density(pixels, light) @ _unmixing(stains).astype(np.float32)
    return found


def stain_picture(
    pixels: UInt8Array,
    stains: StainMatrix,
    view: StainView,
    *,
    target: StainMatrix = TARGET,
    light: float = _DEFAULTS.light,
) -> UInt8Array:
    """Return pixels as they would look with the target's dyes, both or one of them alone, uint8 (…, 3).

    Each concentration is scaled so that one pixel in a hundred exceeds what it does on the target; then
    I = I0 · exp(-M·c) with the target's M (Macenko et al. 2009, section 2.4).

    Parameters
    ----------
    pixels
        uint8 (…, 3).
    stains
        Of the slide.
    view
        Which dyes are seen.
    target
        What is normalised to.
    light
        Grey level of light that went through nothing, I0.
    """
    columns = _COLUMNS[view]
    # All that is linear in one matrix, (3, 3): from densities to concentrations, to the target's, to densities.
    scale = np.array(target.maxima) / np.maximum(stains.maxima, 1e-6)
    linear = (_unmixing(stains) * scale)[:, columns] @ target.array.T[columns]
    seen = _density(pixels, light) @ -linear.astype(np.float32)
    np.exp(seen, out=seen)
    seen *= light
    return np.minimum(seen, 255, out=seen).astype(np.uint8)


def _density(pixels: UInt8Array, light: float) -> FloatArray:
    """Return optical densities as the published code counts them: one grey level is added, so that 0 has a density."""
    table = -np.log((np.arange(256) + 1) / light)
    return table.astype(np.float32)[pixels]


def _unmixing(stains: StainMatrix) -> npt.NDArray[np.float64]:
    """Return what multiplies densities (n, 3) to least-squares concentrations (n, 2)."""
    return np.asarray(np.linalg.pinv(stains.array).T, np.float64)


def _angle_deg(one: Color, another: Color) -> float:
    cosine = np.dot(one, another) / (np.linalg.norm(one) * np.linalg.norm(another))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
