"""Hard negatives as batches: slide first, then location, so that no slide dominates; a set share of every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.errors import SettingsError, TrainingError
from napari_metastasis.sampling.batches import BatchSource, MixedBatches, PatchBatch
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.hard_negative_locations import find_hard_negative_locations
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.slide_batches import BatchPlan, SlideBatchSource
from napari_metastasis.sampling.slide_index import Locations
from napari_metastasis.settings import MiningSettings, SamplingSettings
from napari_metastasis.slides import Slide

__all__ = ["HardNegativeBatches", "check_shares", "with_hard_negatives"]

#: Of the patches that are not mined; the rest keep some ordinary normal tissue in view.
_MOST_TUMOUR = 0.99


class HardNegativeBatches(SlideBatchSource):
    """Batches of mined patches, all normal: a :class:`~napari_metastasis.sampling.batches.BatchSource`.

    Every slide that something was mined on comes equally often, and each of its locations. Locations where the
    reference has become tumour since they were mined are left out, and named in the log. What happens to slides that
    fail, see :class:`~napari_metastasis.sampling.slide_reader.SlideReader`.

    Parameters
    ----------
    slides
        Of the cohort that was mined; those without a mined location give nothing.
    mined
        The locations.
    plan
        Which patches, and how many at a time.
    mining
        How far patches are shifted.

    Raises
    ------
    TrainingError
        If nothing was mined, or on a slide that is not among these.
    """

    needed = (0,)

    def __init__(
        self, slides: Sequence[CohortSlide], mined: Sequence[HardNegative], plan: BatchPlan, mining: MiningSettings
    ) -> None:
        if not mined:
            raise TrainingError("expected mined locations, got none; train without them")
        self.mined = tuple(mined)
        unknown = {location.slide for location in mined} - {slide.name for slide in slides}
        if unknown:
            raise TrainingError(
                f"expected locations mined on the {len(slides)} slides at hand, got some on {min(unknown)}; "
                "mine this cohort again"
            )
        super().__init__(slides, plan)
        self.mining = mining
        self._of_slide = _by_slide(self.mined)

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches every location has been shown once on average."""
        return max(1, len(self.mined) // self.plan.batch_size)

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide can be read any more.
        """
        labels = np.zeros(self.plan.batch_size, dtype=np.int64)
        return self._prepared().batch(labels, (self.plan.seed, number))

    def _usable(self) -> list[CohortSlide]:
        return [slide for slide in self.slides if slide.name in self._of_slide]

    def _find(self, opened: Slide, reference: TumourReference, slide: CohortSlide) -> Locations:
        return find_hard_negative_locations(
            opened,
            reference,
            self._of_slide[slide.name],
            self.plan,
            jitter_um=self.mining.mining_jitter_um,
            known=KnownNormal.of(slide, reference),
        )

    def _how(self) -> dict[str, Any]:
        return {
            "label_share": self.plan.settings.label_share,
            "normal_margin_um": self.plan.settings.normal_margin_um,
            "jitter_um": self.mining.mining_jitter_um,
            # Fingerprints of earlier runs hold this word.
            "places": [(location.slide, location.x, location.y) for location in self.mined],
        }


def check_shares(settings: SamplingSettings, mining: MiningSettings, batch_size: int) -> tuple[int, float]:
    """Return how many patches of a batch are mined, and the share of tumour among the others.

    Raises
    ------
    SettingsError
        If the shares of tumour and of mined patches leave no room for other normal patches.
    """
    part = max(1, round(mining.mined_share * batch_size))
    if batch_size - part < 1:
        raise SettingsError(
            f"expected mined-share to leave room for other patches, got {mining.mined_share:g} of {batch_size}; "
            "lower it, or raise the batch size"
        )
    tumour = settings.tumour_share * batch_size / max(1, batch_size - part)
    if tumour > _MOST_TUMOUR:
        raise SettingsError(
            f"expected tumour-share and mined-share to leave room for other normal patches, got "
            f"{settings.tumour_share:g} and {mining.mined_share:g}; lower one of them"
        )
    return part, tumour


def with_hard_negatives(
    slides: Sequence[CohortSlide], mined: Sequence[HardNegative], plan: BatchPlan, mining: MiningSettings
) -> BatchSource:
    """Return patches straight from slides; hard negatives take their share of every batch from other normal patches.

    Tumour keeps its share of the batch, so that probabilities keep their meaning from one stage to the next. Where
    nothing was mined, as before the first round, they are all of the batch.

    Parameters
    ----------
    slides, mined, mining
        See :class:`HardNegativeBatches`.
    plan
        Of whole batches.

    Raises
    ------
    SettingsError
        If the shares of tumour and of mined patches leave no room for other normal patches.
    """
    if not mined:
        return SlideBatches(slides, plan)
    part, tumour = check_shares(plan.settings, mining, plan.batch_size)
    others = plan.batch_size - part
    # An epoch has as many batches as it has without mined patches.
    batches = max(1, plan.settings.patches_per_epoch // plan.batch_size)
    general = replace(plan.settings, tumour_share=tumour, patches_per_epoch=max(2, batches * others))
    return MixedBatches(
        (
            SlideBatches(slides, replace(plan, settings=general, batch_size=others)),
            HardNegativeBatches(slides, mined, replace(plan, batch_size=part), mining),
        )
    )


def _by_slide(mined: Sequence[HardNegative]) -> Mapping[str, list[HardNegative]]:
    found: dict[str, list[HardNegative]] = {}
    for location in mined:
        found.setdefault(location.slide, []).append(location)
    return found
