"""What all streams of patches from slides share: the slides are looked at once, then patches are drawn."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference, tumour_value_of
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.crops import Crop, PatchCrop
from napari_metastasis.sampling.failures import SlideFailure
from napari_metastasis.sampling.slide_index import IndexedSlide, Locations, SeenSlide, index_slide
from napari_metastasis.sampling.slide_reader import SlideReader
from napari_metastasis.settings import SamplingSettings
from napari_metastasis.slides import Slide

__all__ = ["SlideBatchSource"]


class SlideBatchSource(ABC):
    """Batches of patches from slides; a kind of it says where on a slide they lie, and which classes they are of.

    Parameters
    ----------
    slides
        To take patches from.
    spec
        The model: resolution and size of its patches.
    settings
        What makes a patch tumour or normal, and how many slides stay open.
    batch_size
        Patches in a batch.
    seed
        Of every draw.
    journal
        File to which each failure is added as a line of JSON, so that those of other processes are heard of too.
    cut
        What is cut out around each place; the patch alone by default.
    """

    #: Classes that some slide has to give.
    needed: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        slides: Sequence[CohortSlide],
        spec: ModelSpec,
        settings: SamplingSettings,
        batch_size: int,
        seed: int,
        *,
        journal: Path | None = None,
        cut: Crop | None = None,
    ) -> None:
        self.slides = tuple(slides)
        self.spec = spec
        self.settings = settings
        self.batch_size = batch_size
        self.seed = seed
        self.cut = PatchCrop(spec.patch_px) if cut is None else cut
        self._patches = SlideReader(cut=self.cut, open_slides=settings.open_slides, journal=journal)

    @abstractmethod
    def _usable(self) -> list[CohortSlide]:
        """Return the slides that may give patches."""

    @abstractmethod
    def _find(self, opened: Slide, truth: TumourReference, slide: CohortSlide) -> Locations:
        """Return where patches lie on an open slide."""

    @abstractmethod
    def _how(self) -> dict[str, Any]:
        """Return what the batches depend on besides model, slides, batch size and seed."""

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the slides, their annotations, and how patches are taken; prepares the stream."""
        what = {
            "mpp": self.spec.mpp,
            "patch_px": self.spec.patch_px,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "slides": [one.sha256 for one in self.seen if one.sha256],
            # A run on patches keeps the fingerprint that it had before there was anything else to cut.
            **({} if isinstance(self.cut, PatchCrop) else {"cells": self.cut.label_shape, "side_px": self.cut.side_px}),
            **self._how(),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def seen(self) -> tuple[SeenSlide, ...]:
        """Return what was found of every slide that may give patches; prepares the stream."""
        return self._prepared().seen

    def hold_to(self, before: Sequence[SeenSlide]) -> None:
        """Go on with the slides that a run began with; prepares the stream.

        See :meth:`~napari_metastasis.sampling.slide_reader.SlideReader.hold_to`.
        """
        self._prepared().hold_to(before)

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
        """Look at every slide that may give patches; done once, before the stream is handed to workers.

        See :meth:`~napari_metastasis.sampling.slide_reader.SlideReader.prepare` for the parameters.

        Returns
        -------
        Whether it was done; else it was stopped, and nothing is prepared.

        Raises
        ------
        TrainingError
            If no slide gives patches of a class that is needed.
        """
        if self._patches.prepared:
            return True
        value = self.settings.tumour_value or tumour_value_of(self.slides)

        def look(slide: CohortSlide) -> IndexedSlide:
            return index_slide(slide, value, lambda opened, truth: self._find(opened, truth, slide))

        return self._patches.prepare(
            self._usable(), look, needed=self.needed, threads=threads, progress=progress, should_stop=should_stop
        )

    def close(self) -> None:
        """Close the slides and masks that this process holds open; the next batch opens them again."""
        self._patches.close()

    def _prepared(self) -> SlideReader:
        if not self._patches.prepared:
            self.prepare(threads=1)
        return self._patches
