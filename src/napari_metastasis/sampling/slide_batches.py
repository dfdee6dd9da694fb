"""What all batches of patches from slides share: the slides are indexed once, then patches are drawn."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference, tumour_value_of
from napari_metastasis.sampling.crops import Crop, PatchCrop
from napari_metastasis.sampling.failures import SlideFailure
from napari_metastasis.sampling.locations import PatchPixels
from napari_metastasis.sampling.slide_index import IndexedSlide, Locations, SeenSlide, index_slide
from napari_metastasis.sampling.slide_reader import SlideReader
from napari_metastasis.settings import SamplingSettings
from napari_metastasis.slides import Slide

__all__ = ["BatchPlan", "SlideBatchSource"]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Which patches are drawn from slides, and how many at a time.

    Attributes
    ----------
    spec
        The model: resolution and size of its patches.
    settings
        What makes a patch tumour or normal, how many an epoch has, and how many slides stay open.
    batch_size
        Patches in a batch.
    seed
        Of every draw.
    journal
        File to which each failure is added as a line of JSON, so that those of other processes are heard of too.
    crop
        What is cropped around each location; the patch alone by default.
    tells_stains
        Whether batches say which dyes each image's slide is stained with.
    """

    spec: PatchPixels
    settings: SamplingSettings
    batch_size: int
    seed: int
    journal: Path | None = None
    crop: Crop | None = None
    tells_stains: bool = False


class SlideBatchSource(ABC):
    """Batches of patches from slides; a kind of it says where on a slide they lie, and which classes they are of.

    Parameters
    ----------
    slides
        To take patches from.
    plan
        Which patches, and how many at a time.
    """

    #: Classes that some slide has to give.
    needed: ClassVar[tuple[int, ...]]

    def __init__(self, slides: Sequence[CohortSlide], plan: BatchPlan) -> None:
        self.slides = tuple(slides)
        self.plan = plan
        self.crop = PatchCrop(plan.spec.patch_px) if plan.crop is None else plan.crop
        self._reader = SlideReader(crop=self.crop, open_slides=plan.settings.open_slides, journal=plan.journal)

    @abstractmethod
    def _usable(self) -> list[CohortSlide]:
        """Return the slides that may give patches."""

    @abstractmethod
    def _find(self, opened: Slide, reference: TumourReference, slide: CohortSlide) -> Locations:
        """Return where patches lie on an open slide."""

    @abstractmethod
    def _how(self) -> dict[str, Any]:
        """Return what the batches depend on besides model, slides, batch size and seed."""

    @property
    def fingerprint(self) -> str:
        """Return a SHA-256 over the slides, their annotations, and how patches are taken; indexes the slides."""
        what = {
            "mpp": self.plan.spec.mpp,
            "patch_px": self.plan.spec.patch_px,
            "batch_size": self.plan.batch_size,
            "seed": self.plan.seed,
            "slides": [one.sha256 for one in self.seen if one.sha256],
            **self.crop.identity(),
            **self._how(),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def seen(self) -> tuple[SeenSlide, ...]:
        """Return what was found of every slide that may give patches; indexes the slides."""
        return self._prepared().seen

    def resume_with(self, before: Sequence[SeenSlide]) -> None:
        """Go on with the slides that a run began with; indexes the slides.

        See :meth:`~napari_metastasis.sampling.slide_reader.SlideReader.resume_with`.
        """
        self._prepared().resume_with(before)

    @property
    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every slide that patches could not be taken from, once each; of all processes that share a journal."""
        return self._reader.failures

    def prepare(
        self,
        *,
        threads: int,
        progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Index every slide that may give patches; done once, before workers get a copy of these batches.

        See :meth:`~napari_metastasis.sampling.slide_reader.SlideReader.prepare` for the parameters.

        Returns
        -------
        Whether it was done; else it was stopped, and nothing is prepared.

        Raises
        ------
        TrainingError
            If no slide gives patches of a class that is needed.
        """
        if self._reader.prepared:
            return True
        value = self.plan.settings.tumour_value or tumour_value_of(self.slides)

        def look(slide: CohortSlide) -> IndexedSlide:
            return index_slide(
                slide,
                value,
                lambda opened, reference: self._find(opened, reference, slide),
                tells_stains=self.plan.tells_stains,
            )

        return self._reader.prepare(
            self._usable(), look, needed=self.needed, threads=threads, progress=progress, should_stop=should_stop
        )

    def close(self) -> None:
        """Close the slides and masks that this process holds open; the next batch opens them again."""
        self._reader.close()

    def _prepared(self) -> SlideReader:
        if not self._reader.prepared:
            self.prepare(threads=1)
        return self._reader
