"""Mined places as batches: slide first, then place, so that no slide dominates; beside other patches at a set share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.errors import SettingsError, TrainingError
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.batches import BatchSource, MixedBatches, PatchBatch
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.crops import Crop
from napari_metastasis.sampling.hard_negative_locations import find_hard_negative_locations
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.sampling.slide_batches import SlideBatchSource
from napari_metastasis.sampling.slide_index import Locations
from napari_metastasis.settings import MiningSettings, SamplingSettings
from napari_metastasis.slides import Slide

__all__ = ["HardNegativeBatches", "check_shares", "with_hard_negatives"]

#: Of the patches that are not mined; the rest keep some ordinary normal tissue in view.
_MOST_TUMOUR = 0.99


class HardNegativeBatches(SlideBatchSource):
    """Batches of mined patches, all normal: a :class:`~napari_metastasis.sampling.batches.BatchSource`.

    Every slide that something was mined on comes equally often, and each of its places. Places that the truth has
    become tumour at since they were mined are left out, and named in the log. What happens to slides that fail, see
    :class:`~napari_metastasis.sampling.slide_reader.SlideReader`.

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
    cut
        What is cut out around each place; the patch alone by default.

    Raises
    ------
    TrainingError
        If nothing was mined, or on a slide that is not among these.
    """

    needed = (0,)

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
        cut: Crop | None = None,
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
        super().__init__(slides, spec, settings, batch_size, seed, journal=journal, cut=cut)
        self.mining = mining
        self._of_slide = _by_slide(self.mined)

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches every place has been shown once on average."""
        return max(1, len(self.mined) // self.batch_size)

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide can be read any more.
        """
        return self._prepared().batch(np.zeros(self.batch_size, dtype=np.int64), (self.seed, number))

    def _usable(self) -> list[CohortSlide]:
        return [slide for slide in self.slides if slide.name in self._of_slide]

    def _find(self, opened: Slide, truth: TumourReference, slide: CohortSlide) -> Locations:
        return find_hard_negative_locations(
            opened,
            truth,
            self._of_slide[slide.name],
            self.spec,
            self.settings,
            jitter_um=self.mining.mining_jitter_um,
            shows_normal=slide.shows_normal,
        )

    def _how(self) -> dict[str, Any]:
        return {
            "label_share": self.settings.label_share,
            "normal_margin_um": self.settings.normal_margin_um,
            "jitter_um": self.mining.mining_jitter_um,
            "places": [(place.slide, place.x, place.y) for place in self.mined],
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
    slides: Sequence[CohortSlide],
    mined: Sequence[HardNegative],
    spec: ModelSpec,
    settings: SamplingSettings,
    mining: MiningSettings,
    batch_size: int,
    seed: int,
    *,
    journal: Path | None = None,
    cut: Crop | None = None,
) -> BatchSource:
    """Return patches straight from slides, of which mined ones take their share in the place of other normal ones.

    Tumour keeps its share of the batch, so that probabilities keep their meaning from one stage to the next. Where
    nothing was mined, as before the first round, they are all of the batch.

    Parameters
    ----------
    slides, mined, spec, settings, mining, seed, journal, cut
        See :class:`HardNegativeBatches`.
    batch_size
        Patches in a whole batch.

    Raises
    ------
    SettingsError
        If the shares of tumour and of mined patches leave no room for other normal patches.
    """
    if not mined:
        return SlideBatches(slides, spec, settings, batch_size, seed, journal=journal, cut=cut)
    part, tumour = check_shares(settings, mining, batch_size)
    # An epoch has as many batches as it has without mined patches.
    batches = max(1, settings.patches_per_epoch // batch_size)
    general = replace(settings, tumour_share=tumour, patches_per_epoch=max(2, batches * (batch_size - part)))
    return MixedBatches(
        (
            SlideBatches(slides, spec, general, batch_size - part, seed, journal=journal, cut=cut),
            HardNegativeBatches(slides, mined, spec, settings, mining, part, seed, journal=journal, cut=cut),
        )
    )


def _by_slide(mined: Sequence[HardNegative]) -> Mapping[str, list[HardNegative]]:
    found: dict[str, list[HardNegative]] = {}
    for place in mined:
        found.setdefault(place.slide, []).append(place)
    return found
