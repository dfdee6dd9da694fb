"""The lesions of one slide, as CAMELYON16's organisers count them.

The tumour mask at level 5 is grown wherever tumour lies nearer than 75 µm / 2, holes are filled, and what touches,
corners included, is one lesion. A lesion whose major axis stays under 275 µm is isolated tumour cells: not a target,
and a detection in it neither a hit nor a false positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from napari_metastasis.annotations import Annotation, MaskFile, rasterize, read_mask, tumour_pixels
from napari_metastasis.cohorts.annotation_files import Areas
from napari_metastasis.errors import EvaluationError
from napari_metastasis.geometry import LevelFrame, Region, Size
from napari_metastasis.lesions.measure import mask_length
from napari_metastasis.lesions.size_classes import SizeClass, size_class
from napari_metastasis.settings import EvaluationSettings

__all__ = [
    "ReferenceLesion",
    "SlideReference",
    "reference_from_annotations",
    "reference_from_areas",
    "reference_from_mask",
]

Mask = NDArray[np.bool_]

#: Side of the squares whose distances are computed at a time; bounds memory, skips empty ones and changes no answer.
_SQUARE = 256
#: No slide is larger: a mask that seems to be is of a finer level than it is taken for.
_LARGEST_SLIDE_PX = 400_000
#: Pixels that touch at a corner belong together.
_CORNERS_TOUCH = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceLesion:
    """One lesion as it is scored.

    Attributes
    ----------
    window
        Pixels of the scored mask that hold it.
    mask
        bool, (window.height, window.width): where a detection hits it.
    major_axis_um
        Of the ellipse with the grown lesion's second moments, which decides whether it is a target.
    length_mm
        Longest diameter of the tumour in it, not grown, on its contour as of results; it decides the size class.
    is_target
        False for isolated tumour cells.
    """

    window: Region
    mask: Mask
    major_axis_um: float
    length_mm: float
    is_target: bool

    @property
    def size_class(self) -> SizeClass:
        """Return the AJCC class of the length."""
        return size_class(self.length_mm)


@dataclass(frozen=True, slots=True, eq=False)
class SlideReference:
    """Where the tumour of one slide lies; nowhere, on a normal slide.

    Attributes
    ----------
    slide
        The slide's name.
    is_tumour
        Whether it holds any tumour, if only isolated cells, or less than a pixel of the scored mask.
    downsample
        Level-0 pixels along a pixel of the scored mask.
    lesions
        In the order of their first pixels, row by row; isolated tumour cells among them.
    extent
        The slide's level-0 width and height, where the reference states them.
    mpp
        Pixel size of level 0 in µm that lengths were measured with; ``None`` where there was nothing to measure.
    """

    slide: str
    is_tumour: bool
    downsample: int
    lesions: tuple[ReferenceLesion, ...] = ()
    extent: tuple[float, float] | None = None
    mpp: float | None = None

    @property
    def targets(self) -> int:
        """Return how many lesions are to be found."""
        return sum(lesion.is_target for lesion in self.lesions)

    def lesion_at(self, points: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return which lesion each location hits, -1 for none.

        Parameters
        ----------
        points
            (n, 2) of (x, y) in level-0 pixels.

        Returns
        -------
        (n,) intp, counted from 0.
        """
        columns, rows = np.floor(points / self.downsample).astype(np.intp).reshape(-1, 2).T
        hit = np.full(len(columns), -1, dtype=np.intp)
        for number, lesion in enumerate(self.lesions):
            at = lesion.window
            near = np.flatnonzero((columns >= at.x) & (columns < at.right) & (rows >= at.y) & (rows < at.bottom))
            hit[near[lesion.mask[rows[near] - at.y, columns[near] - at.x]]] = number
        return hit


def reference_from_areas(
    slide: str, areas: Areas | None, settings: EvaluationSettings, *, pyramid_downsample: float = 1.0
) -> SlideReference:
    """Return the lesions of a slide.

    Parameters
    ----------
    slide
        The slide's name.
    areas
        Its outlines or its mask; ``None`` for a normal slide.
    settings
        The tumour value and the downsample of masks, and how lesions are counted.
    pyramid_downsample
        Level-0 pixels along a pixel of the first level of a mask that has several.

    Raises
    ------
    AnnotationError
        If a mask cannot be read at the downsample that is scored.
    EvaluationError
        If a mask is larger than any slide.
    """
    if areas is None:
        return SlideReference(slide=slide, is_tumour=False, downsample=settings.downsample, mpp=settings.mpp)
    if not isinstance(areas, MaskFile):
        return reference_from_annotations(slide, areas, settings)
    held = areas.values()
    mask = read_mask(
        areas,
        downsample=settings.downsample,
        stored_downsample=settings.mask_downsample,
        pyramid_downsample=pyramid_downsample,
    )
    if max(mask.extent) > _LARGEST_SLIDE_PX:
        width, height = mask.extent
        raise EvaluationError(
            f"expected the mask of a slide, got one of {width:g} x {height:g} level-0 pixels in {areas.path}; "
            "state its level with --mask-downsample"
        )
    held |= mask.stored_values
    tumour = tumour_pixels(mask.values, held, settings.tumour_value)
    # Tumour between the pixels of the scored mask makes no lesion; the slide holds tumour all the same.
    anywhere = tumour_pixels(np.array(sorted(held), dtype=np.uint8), held, settings.tumour_value).any()
    return replace(reference_from_mask(slide, tumour, settings, extent=mask.extent), is_tumour=bool(anywhere))


def reference_from_mask(
    slide: str,
    tumour: Mask,
    settings: EvaluationSettings,
    *,
    corner: tuple[int, int] = (0, 0),
    extent: tuple[float, float] | None = None,
) -> SlideReference:
    """Return the lesions of a tumour mask.

    Parameters
    ----------
    slide
        The slide's name.
    tumour
        bool, (rows, columns), a pixel for every ``settings.downsample`` level-0 pixels.
    settings
        Distances, and the pixel size that turns them into pixels.
    corner
        (column, row) of the mask's first pixel, if it is cut out of the slide's; no tumour may lie nearer to a cut than
        half the merging distance.
    extent
        The slide's level-0 width and height, where they are known.
    """
    found = tuple(_lesions(tumour, corner, settings))
    return SlideReference(
        slide=slide,
        is_tumour=bool(tumour.any()),
        downsample=settings.downsample,
        lesions=found,
        extent=extent,
        mpp=settings.mpp,
    )


def reference_from_annotations(
    slide: str, annotations: Iterable[Annotation], settings: EvaluationSettings
) -> SlideReference:
    """Return the lesions of outlines; those that do not mean tumour are left out.

    Parameters
    ----------
    slide
        The slide's name.
    annotations
        Areas in level-0 pixels.
    settings
        Distances, and the pixel size that turns them into pixels.
    """
    step = settings.downsample
    # The organisers' masks ask of a pixel's first CORNER, not of its centre, whether it lies in an outline.
    shift = step / 2
    outlines = [one.moved(shift, shift) for one in annotations if one.is_tumour]
    if not outlines:
        return SlideReference(slide=slide, is_tumour=False, downsample=step, mpp=settings.mpp)
    corners = np.concatenate([one.exterior for one in outlines]) / step
    margin = _margin(settings)
    # The slide's own edge cuts the mask; elsewhere the margin keeps the cut clear of tumour.
    x, y = (int(value) for value in np.maximum(np.floor(corners.min(axis=0)) - margin, 0))
    right, bottom = (int(value) for value in np.ceil(corners.max(axis=0)) + margin)
    window = Region(x, y, max(0, right - x), max(0, bottom - y))
    tumour = rasterize(outlines, LevelFrame(downsample=step, mpp=settings.mpp), window)
    # Outlines that lie between the corners of pixels draw nothing; the slide holds tumour all the same.
    return replace(reference_from_mask(slide, tumour, settings, corner=(x, y)), is_tumour=True)


def _radius(settings: EvaluationSettings) -> float:
    """Return half the merging distance in pixels of the scored mask."""
    return settings.merge_um / 2 / (settings.mpp * settings.downsample)


def _margin(settings: EvaluationSettings) -> int:
    return int(np.ceil(_radius(settings))) + 1


def _lesions(tumour: Mask, corner: tuple[int, int], settings: EvaluationSettings) -> Iterator[ReferenceLesion]:
    """Yield the lesions of a mask, in the order of their first pixels."""
    rows, columns = (np.flatnonzero(tumour.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    margin = _margin(settings)
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    tumour = tumour[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    labels, _ = ndimage.label(_grown(tumour, _radius(settings)), structure=_CORNERS_TOUCH)
    for number, window in enumerate(ndimage.find_objects(labels), 1):
        own = labels[window] == number
        # A lesion in the hole of an earlier one became part of it.
        if not own.any():
            continue
        # What encloses a hole touches, so that a lesion's holes are filled without a look at the others.
        mask = _filled(own)
        labels[window][mask] = number
        y, x = window[0].start, window[1].start
        at = Region(corner[0] + left + x, corner[1] + top + y, mask.shape[1], mask.shape[0])
        yield _measured(mask, mask & tumour[window], at, settings)


def _grown(tumour: Mask, radius: float) -> Mask:
    """Return where a tumour pixel lies nearer than ``radius``, in pixels between centres."""
    halo = int(np.ceil(radius))
    grown = np.zeros_like(tumour)
    whole = Region.of(Size(tumour.shape[1], tumour.shape[0]))
    for square in whole.split(_SQUARE):
        around = Region(square.x - halo, square.y - halo, square.width + 2 * halo, square.height + 2 * halo)
        around = around.intersection(whole)
        part = tumour[around.slices]
        # Without tumour there is nothing to be near to.
        if part.any():
            near = ndimage.distance_transform_edt(~part) < radius
            grown[square.slices] = near[square.shifted(-around.x, -around.y).slices]
    return grown


def _filled(mask: Mask) -> Mask:
    """Return ``mask`` with its holes: what no path along pixels' edges joins to the outside."""
    outside, _ = ndimage.label(~np.pad(mask, 1))
    filled: Mask = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled


def _measured(mask: Mask, tumour: Mask, window: Region, settings: EvaluationSettings) -> ReferenceLesion:
    """Return a lesion with its measures."""
    pixel_um = settings.mpp * settings.downsample
    major_axis_um = float(regionprops(mask.astype(np.uint8))[0].axis_major_length) * pixel_um
    return ReferenceLesion(
        window=window,
        mask=mask,
        major_axis_um=major_axis_um,
        length_mm=mask_length(tumour) * pixel_um / 1000,
        # The same quotient as the organisers compare, so that a lesion on the limit falls on the same side.
        is_target=major_axis_um / pixel_um >= settings.itc_um / pixel_um,
    )
