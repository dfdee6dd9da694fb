"""Draws the slide with the heatmap over it, and the lesions' outlines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import shapely
from skimage.draw import line

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Point, Region, Size
from napari_metastasis.lesions import Lesion
from napari_metastasis.slides import Slide
from napari_metastasis.storage import atomic_write
from napari_metastasis.workflows.scan.results import ScanResult

__all__ = ["overlay_picture"]

#: Longest side of the picture: sharp on a page, small in a repository.
_SIDE_PX = 1600

#: Probability -> colour, red upon yellow, and how much of it covers the tissue: nothing where there is no tumour.
_STOPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_COLOURS = np.array([[255, 237, 160], [254, 217, 118], [253, 141, 60], [227, 26, 28], [128, 0, 38]], np.float64)
_OPACITIES = np.array([0.0, 0.15, 0.45, 0.6, 0.65])

_OUTLINE = np.array([0, 70, 200], np.uint8)


def overlay_picture(slide: Slide, result: ScanResult, path: Path) -> None:
    """Write a PNG of the slide with its heatmap and the outlines of its lesions.

    Parameters
    ----------
    slide
        The slide that was scanned.
    result
        What was found.
    path
        File to write.

    Raises
    ------
    SlideError
        If the slide cannot be read.
    StorageError
        If the file cannot be written.
    """
    scale = max(slide.size.width, slide.size.height) / _SIDE_PX
    size = Size(max(1, math.ceil(slide.size.width / scale)), max(1, math.ceil(slide.size.height / scale)))
    frame = ModelFrame(scale=scale, mpp=slide.mpp, size=size)
    picture = slide.read(frame, Region.of(size)).astype(np.float64)
    shown = _sampled(result.probabilities, result.frame, frame)
    colours = np.stack([np.interp(shown, _STOPS, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = np.interp(shown, _STOPS, _OPACITIES)[..., None]
    image = (picture * (1 - opacity) + colours * opacity + 0.5).astype(np.uint8)
    _draw_outlines(image, result.lesions, scale)
    with atomic_write(path) as file:
        file.write(imagecodecs.png_encode(image, level=6))


def _sampled(
    probabilities: npt.NDArray[np.float32], cells: HeatmapFrame, picture: ModelFrame
) -> npt.NDArray[np.float64]:
    """Return the probability under every pixel of the picture, 0 where nothing was scanned."""

    def indices(count: int, limit: int) -> npt.NDArray[np.intp]:
        first = cells.cell_at(Point(picture.scale / 2, 0)).x
        step = picture.scale / cells.cell_px
        return np.clip(np.rint(first + step * np.arange(count)), 0, limit - 1).astype(np.intp)

    rows = indices(picture.size.height, probabilities.shape[0])
    columns = indices(picture.size.width, probabilities.shape[1])
    return np.nan_to_num(probabilities[np.ix_(rows, columns)].astype(np.float64), nan=0.0)


def _draw_outlines(image: npt.NDArray[np.uint8], lesions: Iterable[Lesion], scale: float) -> None:
    for lesion in lesions:
        for polygon in shapely.get_parts(lesion.outline_px):
            for ring in (polygon.exterior, *polygon.interiors):
                corners = np.rint(shapely.get_coordinates(ring) / scale).astype(np.int64)
                for (x0, y0), (x1, y1) in pairwise(corners):
                    _draw_line(image, line(y0, x0, y1, x1))


def _draw_line(image: npt.NDArray[np.uint8], pixels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> None:
    # Two pixels wide, so that it survives being shown at half the size.
    for shift in (0, 1):
        rows, columns = pixels[0] + shift, pixels[1] + shift
        inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
        image[rows[inside], columns[inside]] = _OUTLINE
