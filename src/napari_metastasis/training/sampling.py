"""Patches straight from slides, class first, then slide, then place, so that no slide dominates.

Zheng et al. 2022 (4.1) choose a class, then a slide that holds it, each with the same probability, and take places from
that slide; Lin et al. 2019 (II-A) fetch the classes under set probabilities. Nothing is cut to disk beforehand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from napari_metastasis.annotations import MaskFile, detect_tumour_value
from napari_metastasis.errors import AnnotationError
from napari_metastasis.models import ModelSpec
from napari_metastasis.settings import SamplingSettings
from napari_metastasis.slides import Slide
from napari_metastasis.training.cohort import CohortSlide
from napari_metastasis.training.places import SlidePlaces, find_places
from napari_metastasis.training.slide_patches import Member, SlideFailure, SlidePatches, look_at
from napari_metastasis.training.streams import PatchBatch
from napari_metastasis.training.truth import TumourTruth, is_mask

__all__ = ["SlideFailure", "SlideStream", "tumour_value_of"]


class SlideStream:
    """Batches of patches from slides: a :class:`~napari_metastasis.training.streams.PatchStream`.

    Batch ``k`` depends on the slides, the settings, the seed and ``k`` alone. What happens to slides that fail, see
    :class:`~napari_metastasis.training.slide_patches.SlidePatches`.

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
    """

    def __init__(
        self,
        slides: Sequence[CohortSlide],
        spec: ModelSpec,
        settings: SamplingSettings,
        batch_size: int,
        seed: int,
        *,
        journal: Path | None = None,
    ) -> None:
        self.slides = tuple(slides)
        self.spec = spec
        self.settings = settings
        self.batch_size = batch_size
        self.seed = seed
        self._patches = SlidePatches(patch_px=spec.patch_px, open_slides=settings.open_slides, journal=journal)

    @property
    def patch_px(self) -> int:
        """Return the side of a patch, in model pixels."""
        return self.spec.patch_px

    @property
    def batches_per_epoch(self) -> int:
        """Return after how many batches the model is measured: slides never run out."""
        return max(1, self.settings.patches_per_epoch // self.batch_size)

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the slides, their annotations, and how patches are taken; prepares the stream."""
        what = {
            "mpp": self.spec.mpp,
            "patch_px": self.spec.patch_px,
            "settings": {name: value for name, value in asdict(self.settings).items() if name != "open_slides"},
            "batch_size": self.batch_size,
            "seed": self.seed,
            "slides": [member.fingerprint for member in self._prepared().members],
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every slide that patches could not be taken from, once each; of all processes that share a journal."""
        return self._patches.failures

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many slides give normal and how many give tumour patches; prepares the stream."""
        return self._prepared().counts

    def prepare(
        self,
        *,
        threads: int,
        progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Look at every slide at low power; done once, before the stream is handed to workers.

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
            If no slide gives patches of a class.
        """
        if self._patches.prepared:
            return True
        value = self.settings.tumour_value or tumour_value_of(self.slides)
        usable = [slide for slide in self.slides if slide.annotation is not None or slide.shows_normal]

        def look(slide: CohortSlide) -> Member:
            def find(opened: Slide, truth: TumourTruth) -> SlidePlaces:
                return find_places(opened, truth, self.spec, self.settings, shows_normal=slide.shows_normal)

            return look_at(slide, value, find)

        return self._patches.prepare(
            usable, look, needed=(0, 1), threads=threads, progress=progress, should_stop=should_stop
        )

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

    def close(self) -> None:
        """Close the slides and masks that this process holds open; the next batch opens them again."""
        self._patches.close()

    def _prepared(self) -> SlidePatches:
        if not self._patches.prepared:
            self.prepare(threads=1)
        return self._patches


def tumour_value_of(slides: Sequence[CohortSlide]) -> int:
    """Return the value that means tumour in the masks of small numbers of a whole cohort, 2 or 1.

    Masks that cannot be read have no say here; who needs them says so.
    """

    def readable() -> list[MaskFile]:
        found = []
        for slide in slides:
            if slide.annotation is not None and is_mask(slide.annotation):
                try:
                    mask = MaskFile(slide.annotation)
                    mask.values()
                except AnnotationError:
                    continue
                mask.close()
                found.append(mask)
        return found

    return detect_tumour_value(readable())
