"""Patches straight from slides, class first, then slide, then place, so that no slide dominates.

Zheng et al. 2022 (4.1) choose a class, then a slide that holds it, each with the same probability, and take places from
that slide; Lin et al. 2019 (II-A) fetch the classes under set probabilities. Nothing is cut to disk beforehand.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.locations import find_locations
from napari_metastasis.sampling.slide_batches import SlideBatchSource
from napari_metastasis.sampling.slide_index import Locations
from napari_metastasis.slides import Slide

__all__ = ["SlideBatches"]


class SlideBatches(SlideBatchSource):
    """Batches of patches from slides: a :class:`~napari_metastasis.sampling.batches.BatchSource`.

    Batch ``k`` depends on the slides, the settings, the seed and ``k`` alone. What happens to slides that fail, see
    :class:`~napari_metastasis.sampling.slide_reader.SlideReader`.

    Parameters
    ----------
    slides
        To sample from. Those without a known truth give no patches.
    spec
        The model: resolution and size of its patches.
    settings
        What makes a patch tumour or normal, and how many are taken.
    batch_size
        Patches in a batch.
    seed
        Of every draw.
    journal
        File to which each failure is added as a line of JSON, so that those of other processes are heard of too.
    cut
        What is cut out around each place; the patch alone by default.
    """

    needed = (0, 1)

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches the model is measured: slides never run out."""
        return max(1, self.settings.patches_per_epoch // self.batch_size)

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many slides give normal and how many give tumour patches; prepares the stream."""
        return self._prepared().counts

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide of a class can be read any more.
        """
        patches = self._prepared()
        generator = np.random.default_rng([self.seed, number])
        # Rounded up or down at random, so that the share holds over many batches of any size.
        tumour = int(self.settings.tumour_share * self.batch_size + generator.random())
        labels = generator.permutation(np.arange(self.batch_size) < tumour).astype(np.int64)
        return patches.batch(labels, (self.seed, number))

    def _usable(self) -> list[CohortSlide]:
        return [slide for slide in self.slides if slide.annotation is not None or slide.shows_normal]

    def _find(self, opened: Slide, truth: TumourReference, slide: CohortSlide) -> Locations:
        return find_locations(opened, truth, self.spec, self.settings, shows_normal=slide.shows_normal)

    def _how(self) -> dict[str, Any]:
        return {"settings": {name: value for name, value in asdict(self.settings).items() if name != "open_slides"}}
