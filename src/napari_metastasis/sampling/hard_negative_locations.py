"""Where patches were mined on a slide, and how far each may be shifted without showing tumour."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.errors import TrainingError
from napari_metastasis.geometry import ModelFrame, Region
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import PatchShape
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.slides import Slide

__all__ = ["HardNegativeLocations", "find_hard_negative_locations", "hard_negative_patch"]

_LOG = logging.getLogger(__name__)

#: Shifts that are tried before a patch is shown where it was mined. Of the shifts at a straight edge half do.
_MAX_SHIFTS = 30


def hard_negative_patch(location: HardNegative, frame: ModelFrame, patch_px: int) -> Region:
    """Return the patch around a mined location, in model pixels; on the grid that it was mined on, the same patch."""
    x, y = (round(middle / frame.scale - patch_px / 2) for middle in (location.x, location.y))
    return Region(x, y, patch_px, patch_px)


@dataclass(frozen=True, slots=True, eq=False)
class HardNegativeLocations:
    """Where patches were mined on a slide.

    Attributes
    ----------
    frame
        The model's pixels on the slide.
    shape
        What of a patch has to be free of tumour.
    corners
        (n, 2) int64, (x, y) of each patch's corner in model pixels; unshifted, all are free of tumour.
    near
        (n,) bool: whether shifts may bring tumour in, so that the reference has to be asked.
    jitter_px
        Largest shift along each axis.
    """

    frame: ModelFrame
    shape: PatchShape
    corners: npt.NDArray[np.int64]
    near: npt.NDArray[np.bool_]
    jitter_px: int

    def gives(self, label: int) -> bool:
        """Return whether there are any of a class; all are normal."""
        return label == 0 and len(self.corners) > 0

    def draw(self, label: int, reference: TumourReference, generator: np.random.Generator) -> Region | None:
        """Return the patch around one of the locations, shifted a little, in model pixels."""
        if not self.gives(label):
            return None
        number = int(generator.integers(len(self.corners)))
        x, y = self.corners[number].tolist()
        patch = Region(x, y, self.shape.patch_px, self.shape.patch_px)
        for _ in range(_MAX_SHIFTS):
            dx, dy = generator.integers(-self.jitter_px, self.jitter_px + 1, size=2).tolist()
            shifted = patch.shifted(dx, dy)
            if not self.near[number] or not _holds_tumour(reference, self.frame, self.shape, shifted):
                return shifted
        return patch


def find_hard_negative_locations(
    opened: Slide,
    reference: TumourReference,
    mined: Sequence[HardNegative],
    plan: BatchPlan,
    *,
    jitter_um: float,
    known: KnownNormal,
) -> HardNegativeLocations:
    """Return the locations of a slide that are still normal, and which of them lie near tumour.

    Parameters
    ----------
    opened, reference
        The slide, and where its tumour is.
    mined
        The locations on it.
    plan
        The model that is trained, and what makes a patch normal.
    jitter_um
        Largest shift of a patch along each axis.
    known
        Where what is not tumour is known to be normal.

    Raises
    ------
    TrainingError
        If none is normal any more.
    AnnotationError
        If the slide's mask cannot be read.
    """
    frame = opened.frame(plan.spec.mpp)
    shape = PatchShape.of(plan.spec.patch_px, plan.settings, frame.effective_mpp)
    # Rounded down: never further than was asked for.
    jitter_px = int(jitter_um / frame.effective_mpp)
    patches = [hard_negative_patch(location, frame, shape.patch_px) for location in mined]
    near = [_holds_tumour(reference, frame, shape, patch, jitter_px=jitter_px) for patch in patches]
    normal = [
        bool(known.over(frame, shape.label_square(patch)).all())
        and not (close and _holds_tumour(reference, frame, shape, patch))
        for patch, close in zip(patches, near, strict=True)
    ]
    if not any(normal):
        raise TrainingError(f"expected normal tissue where {len(mined)} locations were mined, got tumour; mine again")
    if not all(normal):
        left_out = len(normal) - sum(normal)
        _LOG.warning("%s: %d of %d mined locations are tumour now and left out", opened.name, left_out, len(normal))
    corners = np.array([(patch.x, patch.y) for patch in patches], dtype=np.int64)
    kept = np.array(normal)
    return HardNegativeLocations(
        frame=frame, shape=shape, corners=corners[kept], near=np.array(near)[kept], jitter_px=jitter_px
    )


def _holds_tumour(
    reference: TumourReference, frame: ModelFrame, shape: PatchShape, patch: Region, *, jitter_px: int = 0
) -> bool:
    """Return whether there is tumour in what has to be free of it, at some shift of the patch."""
    if reference.none:
        return False
    square = shape.label_square(patch, margin_px=shape.margin_px + jitter_px)
    return bool(reference.over(frame, square).any())
