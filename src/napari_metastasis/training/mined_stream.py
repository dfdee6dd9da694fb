"""Mined places as batches: slide first, then place, so that no slide dominates; beside other patches at a set share."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_metastasis.errors import SettingsError, TrainingError
from napari_metastasis.geometry import ModelFrame, Region
from napari_metastasis.models import ModelSpec
from napari_metastasis.settings import MiningSettings, SamplingSettings
from napari_metastasis.slides import Slide
from napari_metastasis.training.cohort import CohortSlide
from napari_metastasis.training.hard_negatives import HardNegative
from napari_metastasis.training.places import PatchShape
from napari_metastasis.training.sampling import SlideStream, tumour_value_of
from napari_metastasis.training.slide_patches import Member, SlideFailure, SlidePatches, look_at
from napari_metastasis.training.streams import MixedStream, PatchBatch, PatchStream
from napari_metastasis.training.truth import TumourTruth

__all__ = ["HardNegativeStream", "MinedPlaces", "mined_patch", "with_hard_negatives"]

_LOG = logging.getLogger(__name__)

#: Shifts that are tried before a patch is shown where it was mined. Of the shifts at a straight edge half do.
_MAX_SHIFTS = 30
#: Of the patches that are not mined; the rest keep some ordinary normal tissue in view.
_MOST_TUMOUR = 0.99


def mined_patch(place: HardNegative, frame: ModelFrame, patch_px: int) -> Region:
    """Return the patch around a mined place, in model pixels; on the grid that it was mined on, the very same patch."""
    x, y = (round(middle / frame.scale - patch_px / 2) for middle in (place.x, place.y))
    return Region(x, y, patch_px, patch_px)


@dataclass(frozen=True, slots=True, eq=False)
class MinedPlaces:
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
        (n,) bool: whether shifts may bring tumour in, so that the truth has to be asked.
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

    def draw(self, label: int, truth: TumourTruth, generator: np.random.Generator) -> Region | None:
        """Return the patch around one of the places, shifted a little, in model pixels."""
        if not self.gives(label):
            return None
        number = int(generator.integers(len(self.corners)))
        x, y = self.corners[number].tolist()
        patch = Region(x, y, self.shape.patch_px, self.shape.patch_px)
        for _ in range(_MAX_SHIFTS):
            dx, dy = generator.integers(-self.jitter_px, self.jitter_px + 1, size=2).tolist()
            shifted = patch.shifted(dx, dy)
            if not self.near[number] or not _holds_tumour(truth, self.frame, self.shape, shifted):
                return shifted
        return patch


class HardNegativeStream:
    """Batches of mined patches, all normal: a :class:`~napari_metastasis.training.streams.PatchStream`.

    Every slide that something was mined on comes equally often, and each of its places. Places that the truth has
    become tumour at since they were mined are left out, and named in the log. What happens to slides that fail, see
    :class:`~napari_metastasis.training.slide_patches.SlidePatches`.

    Parameters
    ----------
    slides
        Of the cohort that was mined; those without a mined place give nothing.
    mined
        The places.
    spec
        The model: resolution and size of its patches.
    settings
        What makes a patch normal, and how many slides stay open.
    mining
        How far patches are shifted.
    batch_size
        Patches in a batch.
    seed
        Of every draw.
    journal
        File to which each failure is added as a line of JSON.

    Raises
    ------
    TrainingError
        If nothing was mined, or on a slide that is not among these.
    """

    def __init__(
        self,
        slides: Sequence[CohortSlide],
        mined: Sequence[HardNegative],
        spec: ModelSpec,
        settings: SamplingSettings,
        mining: MiningSettings,
        batch_size: int,
        seed: int,
        *,
        journal: Path | None = None,
    ) -> None:
        if not mined:
            raise TrainingError("expected mined places, got none; train without them")
        self.mined = tuple(mined)
        unknown = {place.slide for place in mined} - {slide.name for slide in slides}
        if unknown:
            raise TrainingError(
                f"expected places mined on the {len(slides)} slides at hand, got some on {min(unknown)}; "
                "mine this cohort again"
            )
        self.slides = tuple(slides)
        self.spec = spec
        self.settings = settings
        self.mining = mining
        self.batch_size = batch_size
        self.seed = seed
        self._patches = SlidePatches(patch_px=spec.patch_px, open_slides=settings.open_slides, journal=journal)

    @property
    def patch_px(self) -> int:
        """Return the side of a patch, in model pixels."""
        return self.spec.patch_px

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches every place has been shown once on average."""
        return max(1, len(self.mined) // self.batch_size)

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the slides, the places, and how patches are taken; prepares the stream."""
        what = {
            "mpp": self.spec.mpp,
            "patch_px": self.spec.patch_px,
            "label_share": self.settings.label_share,
            "normal_margin_um": self.settings.normal_margin_um,
            "jitter_um": self.mining.mining_jitter_um,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "slides": [member.fingerprint for member in self._prepared().members],
            "places": [(place.slide, place.x, place.y) for place in self.mined],
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every slide that patches could not be taken from, once each; of all processes that share a journal."""
        return self._patches.failures

    def prepare(
        self,
        *,
        threads: int,
        progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Look at every slide that something was mined on; done once, before the stream is handed to workers.

        Parameters
        ----------
        threads
            Slides that are looked at side by side.
        progress
            Called with (slides done, slides in all).
        should_stop
            Asked between slides.

        Returns
        -------
        Whether it was done; else it was stopped, and nothing is prepared.

        Raises
        ------
        TrainingError
            If no slide can be read.
        """
        if self._patches.prepared:
            return True
        value = self.settings.tumour_value or tumour_value_of(self.slides)
        of_slide = _by_slide(self.mined)

        def look(slide: CohortSlide) -> Member:
            def find(opened: Slide, truth: TumourTruth) -> MinedPlaces:
                return _places(opened, truth, of_slide[slide.name], slide, self)

            return look_at(slide, value, find)

        return self._patches.prepare(
            [slide for slide in self.slides if slide.name in of_slide],
            look,
            needed=(0,),
            threads=threads,
            progress=progress,
            should_stop=should_stop,
        )

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide can be read any more.
        """
        return self._prepared().batch(np.zeros(self.batch_size, dtype=np.int64), (self.seed, number))

    def close(self) -> None:
        """Close the slides and masks that this process holds open; the next batch opens them again."""
        self._patches.close()

    def _prepared(self) -> SlidePatches:
        if not self._patches.prepared:
            self.prepare(threads=1)
        return self._patches


def with_hard_negatives(
    slides: Sequence[CohortSlide],
    mined: Sequence[HardNegative],
    spec: ModelSpec,
    settings: SamplingSettings,
    mining: MiningSettings,
    batch_size: int,
    seed: int,
    *,
    journal: Path | None = None,
) -> PatchStream:
    """Return patches straight from slides, of which mined ones take their share in the place of other normal ones.

    Tumour keeps its share of the batch, so that probabilities keep their meaning from one stage to the next. Where
    nothing was mined, training goes on without; the log says so.

    Parameters
    ----------
    slides, mined, spec, settings, mining, seed, journal
        See :class:`HardNegativeStream`.
    batch_size
        Patches in a whole batch.

    Raises
    ------
    SettingsError
        If the shares of tumour and of mined patches leave no room for other normal patches.
    """
    if not mined:
        _LOG.warning("nothing was mined: training goes on without hard negatives")
        return SlideStream(slides, spec, settings, batch_size, seed, journal=journal)
    part = max(1, round(mining.mined_share * batch_size))
    tumour = settings.tumour_share * batch_size / max(1, batch_size - part)
    if tumour > _MOST_TUMOUR:
        raise SettingsError(
            f"expected tumour-share and mined-share to leave room for other normal patches, got "
            f"{settings.tumour_share:g} and {mining.mined_share:g}; lower one of them"
        )
    # An epoch has as many batches as it has without mined patches.
    batches = max(1, settings.patches_per_epoch // batch_size)
    general = replace(settings, tumour_share=tumour, patches_per_epoch=max(2, batches * (batch_size - part)))
    return MixedStream(
        (
            SlideStream(slides, spec, general, batch_size - part, seed, journal=journal),
            HardNegativeStream(slides, mined, spec, settings, mining, part, seed, journal=journal),
        )
    )


def _by_slide(mined: Sequence[HardNegative]) -> Mapping[str, list[HardNegative]]:
    found: dict[str, list[HardNegative]] = {}
    for place in mined:
        found.setdefault(place.slide, []).append(place)
    return found


def _places(
    opened: Slide, truth: TumourTruth, mined: Sequence[HardNegative], slide: CohortSlide, stream: HardNegativeStream
) -> MinedPlaces:
    """Return the places that are still normal, and which of them lie near tumour."""
    frame = opened.frame(stream.spec.mpp)
    shape = PatchShape.of(stream.spec.patch_px, stream.settings, frame.effective_mpp)
    # Rounded down: never further than was asked for.
    jitter_px = int(stream.mining.mining_jitter_um / frame.effective_mpp)
    patches = [mined_patch(place, frame, shape.patch_px) for place in mined]
    near = [_holds_tumour(truth, frame, shape, patch, jitter_px=jitter_px) for patch in patches]
    normal = [
        slide.shows_normal and not (close and _holds_tumour(truth, frame, shape, patch))
        for patch, close in zip(patches, near, strict=True)
    ]
    if not any(normal):
        raise TrainingError(f"expected normal tissue where {len(mined)} places were mined, got tumour; mine again")
    if not all(normal):
        left_out = len(normal) - sum(normal)
        _LOG.warning("%s: %d of %d mined places are tumour now and left out", slide.name, left_out, len(normal))
    corners = np.array([(patch.x, patch.y) for patch in patches], dtype=np.int64)
    kept = np.array(normal)
    return MinedPlaces(frame=frame, shape=shape, corners=corners[kept], near=np.array(near)[kept], jitter_px=jitter_px)


def _holds_tumour(
    truth: TumourTruth, frame: ModelFrame, shape: PatchShape, patch: Region, *, jitter_px: int = 0
) -> bool:
    """Return whether there is tumour in what has to be free of it, at some shift of the patch."""
    if truth.none:
        return False
    square = shape.label_square(patch, margin_px=shape.margin_px + jitter_px)
    return bool(truth.over(frame, square).any())
