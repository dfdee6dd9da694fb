"""Synthetic mitoses and what is taken for them, drawn into pictures of real tissue with the dyes of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_metastasis.cohorts.point_crops import PointCrop
from napari_metastasis.errors import StainError
from napari_metastasis.slides.stains import TARGET, StainMatrix, concentrations, optical_density, stain_matrix
from napari_metastasis.synthetic._cell_figures import CellFigure
from napari_metastasis.synthetic._lookalikes import draw_lookalike
from napari_metastasis.synthetic._mitoses import draw_mitosis
from napari_metastasis.synthetic._noise import Floats, drawn_noise

__all__ = ["FigurePainter", "Palette", "paint_figure"]

#: Of what is drawn: another number where figures look otherwise, so that no run goes on with other pictures.
_DRAWING = 1
#: Concentration in chromosomes that lie over each other: so much, and a share of what one pixel in a hundred of the
#: tissue around exceeds; fitted to 194 mitotic figures of MIDOG 2021 and TUPAC16 and strips beside them.
_CHROMATIN, _LIKE_AROUND = 1.9, 0.6
_MOST_AROUND = 4.0
#: Standard deviation of optics, µm, that is believed.
_BLUR_UM = (0.15, 0.45)
#: Standard deviation of density in cytoplasm that is believed.
_GRAIN = (0.005, 0.06)
#: Mean density of what is stained at all, natural logarithm.
_STAINED = 0.15
#: Figures in a picture that has any, and places that are tried for each.
_MOST, _TRIES = 3, 12
#: From the edge of a picture: nearer than that, nothing is set in crops either.
_EDGE_UM = 2.0
_AROUND_UM = 5.0


@dataclass(frozen=True, slots=True)
class Palette:
    """How a picture is stained and how sharp it is.

    Attributes
    ----------
    stains
        Its dyes.
    haematoxylin
        Concentration in a mitosis' chromatin.
    cytoplasm
        Concentrations of haematoxylin and eosin in what is no nucleus.
    grain
        Standard deviation of the density of that, over less than a µm.
    blur_um
        Standard deviation of its optics.
    """

    stains: StainMatrix
    haematoxylin: float
    cytoplasm: tuple[float, float]
    grain: float
    blur_um: float

    @classmethod
    def of(cls, image: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_], mpp: float) -> Palette:
        """Return the palette of a picture; the published reference's dyes where its own cannot be told.

        Parameters
        ----------
        image
            (h, w, 3) uint8.
        known
            (h, w) bool, which pixels are the picture's.
        mpp
            µm per pixel.
        """
        try:
            # A quarter of the pixels tells the same, in a quarter of the time.
            stains = stain_matrix(image[::2, ::2][known[::2, ::2]])
        except StainError:
            stains = TARGET
        density = _density(image)
        inside = known & (density > _STAINED)
        if not inside.any():
            return cls(stains, _CHROMATIN, (0.2, 0.6), 0.02, _BLUR_UM[0])
        amount = concentrations(image, stains)
        haematoxylin, eosin = amount[..., 0], amount[..., 1]
        middle, upper, dark = np.percentile(haematoxylin[inside], [50, 60, 99])
        # Neither nuclei nor what is hardly stained.
        pale = inside & (haematoxylin <= upper)
        pale &= eosin >= np.median(eosin[pale])
        cytoplasm = np.median(amount[pale], axis=0).clip(0, None)
        fine = density - ndimage.gaussian_filter(density, 0.7 / mpp, truncate=2)
        # The steepest edge of a dark nucleus: that of a step which optics blurred is contrast / (σ √2π).
        slope = np.hypot(*np.gradient(haematoxylin))[inside]
        blur = (dark - middle) / max(float(np.percentile(slope, 99.5)), 1e-6) / np.sqrt(2 * np.pi) * mpp
        return cls(
            stains,
            _CHROMATIN + _LIKE_AROUND * float(np.clip(dark, 0, _MOST_AROUND)),
            (float(cytoplasm[0]), float(cytoplasm[1])),
            float(np.clip(fine[pale].std(), *_GRAIN)),
            float(np.clip(blur, *_BLUR_UM)),
        )


def _density(image: npt.NDArray[np.uint8]) -> Floats:
    """Return mean optical density over colours, (h, w) float32, natural logarithm."""
    found: Floats = _densities(image) @ np.full(3, 1 / 3, np.float32)
    return found


def _densities(image: npt.NDArray[np.uint8]) -> Floats:
    """Return optical densities, float32 (…, 3), natural logarithm."""
    found: Floats = optical_density(np.arange(256)).astype(np.float32)[image]
    return found


def paint_figure(
    image: npt.NDArray[np.uint8],
    figure: CellFigure,
    palette: Palette,
    row: int,
    column: int,
    mpp: float,
    rng: np.random.Generator,
) -> None:
    """Draw a figure around a pixel of a picture, in place; what lies outside of the cell stays as it is.

    Parameters
    ----------
    image
        (h, w, 3) uint8.
    figure, palette
        What is drawn, at the resolution of the picture, and with which dyes.
    row, column
        Of its middle.
    mpp
        µm per pixel.
    rng
        Source of the cytoplasm's grain.
    """
    half = len(figure.chromatin) // 2
    rows, columns = (
        slice(max(0, at - half), min(size, at + half + 1))
        for at, size in zip((row, column), image.shape[:2], strict=True)
    )
    drawn = (
        slice(rows.start - row + half, rows.stop - row + half),
        slice(columns.start - column + half, columns.stop - column + half),
    )
    sigma = figure.blur * palette.blur_um / mpp
    chromatin, cell, halo = (
        ndimage.gaussian_filter(each, sigma, truncate=3)[drawn][..., None]
        for each in (figure.chromatin, figure.cell, figure.halo)
    )
    grain = palette.grain * drawn_noise(rng, figure.cell.shape, max(0.25 / mpp, 0.5))
    dyes = palette.stains.array.astype(np.float32)
    was = _densities(image[rows, columns])
    own = np.array(palette.cytoplasm) * (figure.haematoxylin, figure.eosin) @ dyes.T
    # What lay there shows through faintly, as texture: a nucleus cannot, and a hole cannot.
    limit = np.float32(3 * palette.grain)
    cytoplasm = own.astype(np.float32) + limit * np.tanh((was - own.astype(np.float32)) / (2 * limit))
    density = was * (1 - 0.85 * halo)
    density += cell * (cytoplasm + grain[drawn][..., None] - density)
    density += chromatin * (np.float32(palette.haematoxylin) * dyes[:, 0] - 0.5 * density)
    seen = 255 * np.exp(-density)
    changed = (cell + halo + chromatin)[..., 0] > 1e-3
    image[rows, columns][changed] = np.rint(seen).clip(0, 255).astype(np.uint8)[changed]


@dataclass(frozen=True, slots=True)
class FigurePainter:
    """Draws synthetic mitoses into crops of tissue, whose points they are, and cells that are taken for mitoses.

    Attributes
    ----------
    mitoses, lookalikes
        Share of the crops that get one to three.
    clear_um
        How far a figure keeps from every point, and from where nothing is known; from another twice as far.
    """

    mitoses: float
    lookalikes: float
    clear_um: float

    @property
    def identity(self) -> str:
        """Return what tells pictures drawn otherwise apart."""
        return f"{self!r} {_DRAWING}"

    def painted(self, crop: PointCrop, mpp: float, generator: np.random.Generator) -> PointCrop:
        """Return a crop with what was drawn into it, and the points of that.

        Parameters
        ----------
        crop
            Of tissue; it is left as it is.
        mpp
            µm per pixel of it.
        generator
            Source of what is drawn, and where.
        """
        wanted = [
            (draw, int(generator.integers(1, _MOST, endpoint=True)) if generator.random() < share else 0)
            for draw, share in ((draw_mitosis, self.mitoses), (draw_lookalike, self.lookalikes))
        ]
        if not any(count for _, count in wanted) or not crop.known.any():
            return crop
        image, palette = crop.image.copy(), Palette.of(crop.image, crop.known, mpp)
        places = _Places(crop, mpp, self.clear_um)
        found = [
            place
            for draw, count in wanted
            for _ in range(count)
            if (place := self._drawn(image, draw, palette, places, mpp, generator)) and draw is draw_mitosis
        ]
        xy = np.array(found, np.float64).reshape(-1, 2)[:, ::-1] + 0.5
        return PointCrop(image, crop.known, np.concatenate([crop.xy, xy]))

    def _drawn(
        self,
        image: npt.NDArray[np.uint8],
        draw: Callable[[np.random.Generator, float], CellFigure],
        palette: Palette,
        places: _Places,
        mpp: float,
        generator: np.random.Generator,
    ) -> tuple[int, int] | None:
        """Draw one figure where there is room, and return the row and column of its middle."""
        place = places.free(generator)
        if place is not None:
            paint_figure(image, draw(generator, mpp), palette, *place, mpp, generator)
        return place


class _Places:
    """Where in a crop there is room for a figure."""

    def __init__(self, crop: PointCrop, mpp: float, clear_um: float) -> None:
        along = np.arange(len(crop.image))
        self._edge, self._apart = int(np.ceil(_EDGE_UM / mpp)), 2 * clear_um / mpp
        self._taken: list[tuple[int, int]] = []
        clear = clear_um / mpp
        free = np.ones_like(crop.known)
        # Without any such place there is no distance to it.
        if not crop.known.all():
            free &= ndimage.distance_transform_edt(crop.known) > clear
        for x, y in crop.xy.tolist():
            free &= np.hypot(along[:, None] + 0.5 - y, along + 0.5 - x) > clear
        # Tissue around it: no figure lies on glass.
        stained = (_density(crop.image) > _STAINED).astype(np.float32)
        free &= ndimage.uniform_filter(stained, max(1, round(2 * _AROUND_UM / mpp))) > 0.7
        self._free = free

    def free(self, generator: np.random.Generator) -> tuple[int, int] | None:
        """Return the row and column of a place that is drawn, or ``None`` where none was found."""
        side = len(self._free)
        for row, column in generator.integers(self._edge, side - self._edge, (_TRIES, 2)).tolist():
            away = min((np.hypot(row - r, column - c) for r, c in self._taken), default=np.inf)
            if self._free[row, column] and away > self._apart:
                self._taken.append((row, column))
                return row, column
        return None
