"""Hard negatives: where a model takes normal tissue for tumour (Lin et al. 2019, II-C)."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference, open_reference
from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.geometry.summed_area import SummedArea
from napari_metastasis.lesions.peaks import suppress
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import PatchShape
from napari_metastasis.sampling.slide_index import open_indexed
from napari_metastasis.settings import MiningSettings, SamplingSettings

__all__ = ["find_false_positives", "mine_slide"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

#: Side of the windows that the reference is read in: each holds hundreds of cells, in a megabyte.
_WINDOW_PX = 1024


def find_false_positives(
    probabilities: npt.NDArray[np.float32],
    frame: HeatmapFrame,
    reference: TumourReference,
    mining: MiningSettings,
    sampling: SamplingSettings,
    slide: CohortSlide,
    *,
    patch_px: int,
) -> tuple[HardNegative, ...]:
    """Return the strongest false positives of a heatmap, strongest first, each at a distance from the others.

    A false positive is a cell at or above the threshold whose patch could be drawn as normal: the square that decides
    its label, with its margin, is free of tumour. Of two closer than ``mining.mined_apart_um`` the stronger one is
    taken, and of equals the first in reading order.

    Parameters
    ----------
    probabilities
        (rows, columns) float32, NaN where nothing was scanned.
    frame
        Where its cells lie.
    reference
        Where the slide's tumour is.
    mining
        What is a false positive, and how many are taken.
    sampling
        What makes a patch normal.
    slide
        The slide; where what is not tumour is not known to be normal, there are no false positives.
    patch_px
        Side of the model's patch, in model pixels.

    Raises
    ------
    AnnotationError
        If its mask cannot be read.
    """
    known = KnownNormal.of(slide, reference)
    rows, columns = np.nonzero(probabilities >= mining.mining_threshold)
    shape = PatchShape.of(patch_px, sampling, frame.model.effective_mpp)
    free = _known_to_be_normal(rows, columns, frame, shape, reference, known)
    rows, columns = rows[free], columns[free]
    found = probabilities[rows, columns]
    order = np.argsort(-found, kind="stable")
    kept = order[
        suppress(
            rows[order].astype(np.float64),
            columns[order].astype(np.float64),
            shape=frame.cells.shape,
            radius=mining.mined_apart_um / frame.cell_um,
        )
    ][: mining.mined_per_slide]
    centers = [frame.cell_center(column, row) for row, column in zip(rows[kept], columns[kept], strict=True)]
    return tuple(
        HardNegative(slide.name, float(center.x), float(center.y), float(probability))
        for center, probability in zip(centers, found[kept], strict=True)
    )


def mine_slide(
    slide: CohortSlide,
    probabilities: npt.NDArray[np.float32],
    frame: HeatmapFrame,
    mining: MiningSettings,
    sampling: SamplingSettings,
    *,
    tumour_value: int,
    patch_px: int,
) -> tuple[HardNegative, ...]:
    """Return the strongest false positives on a slide of a cohort; see :func:`find_false_positives`.

    Parameters
    ----------
    slide, probabilities, frame
        The slide, and its heatmap.
    mining, sampling
        What is a false positive.
    tumour_value
        The class that means tumour in masks of small numbers, from
        :func:`~napari_metastasis.cohorts.reference.tumour_value_of` over the whole cohort.
    patch_px
        Side of the model's patch, in model pixels.

    Raises
    ------
    SlideError
        If the slide cannot be opened.
    AnnotationError
        If its annotation cannot be read.
    """
    if not slide.shows_normal and slide.annotation is None:
        return ()
    with open_indexed(slide) as opened:
        size, bounds = opened.size, opened.bounds
    with closing(open_reference(slide.annotation, slide=size, bounds=bounds, tumour_value=tumour_value)) as reference:
        return find_false_positives(probabilities, frame, reference, mining, sampling, slide, patch_px=patch_px)


def _known_to_be_normal(
    rows: IntArray,
    columns: IntArray,
    frame: HeatmapFrame,
    shape: PatchShape,
    reference: TumourReference,
    known: KnownNormal,
) -> BoolArray:
    """Return which cells' patches could be drawn as normal.

    The square that decides a patch's label is known to be normal, and there is no tumour in it or in its margin.
    """
    free = np.ones(len(rows), dtype=bool)
    if (reference.none and known.without_limits) or not len(rows):
        return free
    patch = shape.patch_in(frame.read_window(Region(0, 0, 1, 1)))
    square, margin = shape.label_square(patch, margin_px=shape.margin_px), shape.margin_px
    x, y, side = square.x + columns * frame.stride_px, square.y + rows * frame.stride_px, square.width
    # Neighbouring cells share most of their squares: the reference is read once for a window.
    together = max(1, _WINDOW_PX // frame.stride_px)
    window = rows // together * (frame.cells.width // together + 1) + columns // together
    order = np.argsort(window, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(window[order])) + 1):
        left, top = int(x[part].min()), int(y[part].min())
        right, bottom = int(x[part].max()) + side, int(y[part].max()) + side
        asked, near_x, near_y = Region(left, top, right - left, bottom - top), x[part] - left, y[part] - top
        tumour = reference.over(frame.model, asked)
        if tumour.any():
            free[part] = SummedArea(tumour).count(near_y, near_x, near_y + side, near_x + side) == 0
        if not known.without_limits:
            unknown = SummedArea(~known.over(frame.model, asked))
            near_y, near_x, inner = near_y + margin, near_x + margin, side - 2 * margin
            free[part] &= unknown.count(near_y, near_x, near_y + inner, near_x + inner) == 0
    return free
