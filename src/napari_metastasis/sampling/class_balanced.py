"""Patches straight from slides, class first, then slide, then location, so that no slide dominates.

Zheng et al. 2022 (4.1) choose a class, then a slide that holds it, each with the same probability, and take locations
from that slide; Lin et al. 2019 (II-A) fetch the classes under set probabilities. No patch is written to disk first.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import find_locations
from napari_metastasis.sampling.slide_batches import SlideBatchSource
from napari_metastasis.sampling.slide_index import Locations
from napari_metastasis.slides import Slide

__all__ = ["SlideBatches"]


class SlideBatches(SlideBatchSource):
    """Batches of patches from slides: a :class:`~napari_metastasis.sampling.batches.BatchSource`.

    Batch ``k`` depends on the slides, the plan and ``k`` alone. Slides without a known reference give no patches. What
    happens to slides that fail, see :class:`~napari_metastasis.sampling.slide_reader.SlideReader`.
    """

    needed = (0, 1)

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches the model is measured: slides never run out."""
        return max(1, self.plan.settings.patches_per_epoch // self.plan.batch_size)

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many slides give normal and how many give tumour patches; indexes the slides."""
        return self._prepared().counts

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide of a class can be read any more.
        """
        plan = self.plan
        generator = np.random.default_rng([plan.seed, number])
        # Rounded up or down at random, so that the share holds over many batches of any size.
        tumour = int(plan.settings.tumour_share * plan.batch_size + generator.random())
        labels = generator.permutation(np.arange(plan.batch_size) < tumour).astype(np.int64)
        return self._prepared().batch(labels, (plan.seed, number))

    def _usable(self) -> list[CohortSlide]:
        return [slide for slide in self.slides if slide.annotation is not None or slide.shows_normal]

    def _find(self, opened: Slide, reference: TumourReference, slide: CohortSlide) -> Locations:
        known = KnownNormal.of(slide, reference)
        return find_locations(opened, reference, self.plan.spec, self.plan.settings, known)

    def _how(self) -> dict[str, Any]:
        return {
            "settings": {name: value for name, value in asdict(self.plan.settings).items() if name != "open_slides"}
        }
