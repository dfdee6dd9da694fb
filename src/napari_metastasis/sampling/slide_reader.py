"""Patches of slides that may fail in the middle of a run: the slide is named once, and another one stands in for it."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import TrainingError, in_one_line
from napari_metastasis.sampling.batches import PatchBatch
from napari_metastasis.sampling.crops import Crop
from napari_metastasis.sampling.failures import SlideFailure, add_failure, read_failures
from napari_metastasis.sampling.slide_index import IndexedSlide, SeenSlide, open_indexed
from napari_metastasis.slides import Slide

__all__ = ["SlideReader"]

_LOG = logging.getLogger(__name__)

_CLASSES = ("normal", "tumour")


class SlideReader:
    """Random patches of slides: class first, then slide, then location.

    A patch that cannot be read is replaced by one of the next slide in an order that was drawn beforehand; the slide is
    named once, in the log and in :attr:`failures`. One that cannot even be opened is not tried again. Pickles small,
    with nothing open.

    Parameters
    ----------
    crop
        What is cropped around a location, and its labels.
    open_slides
        Slides that a process keeps open, each with its mask.
    journal
        File to which each failure is added as a line of JSON, so that those of other processes are heard of too.

    Attributes
    ----------
    seen
        What was found of every slide that was asked for, once prepared.
    indexed
        Those of them that could be read; ``None`` for one that a run began with and that cannot be read now.
    """

    def __init__(self, *, crop: Crop, open_slides: int, journal: Path | None) -> None:
        self.seen: tuple[SeenSlide, ...] = ()
        self.indexed: tuple[IndexedSlide | None, ...] = ()
        self._crop = crop
        self._open_slides = open_slides
        self._journal = journal
        self._of_class: tuple[npt.NDArray[np.int64], ...] = ()
        self._failures: dict[str, SlideFailure] = {}
        self._unopened: set[int] = set()
        self._open: OrderedDict[int, Slide] = OrderedDict()
        self._process = os.getpid()

    @property
    def prepared(self) -> bool:
        """Return whether the slides were looked at."""
        return bool(self.indexed)

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many slides give normal and how many give tumour patches."""
        return len(self._of_class[0]), len(self._of_class[1])

    @property
    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every slide that patches could not be taken from, once each; of all processes that share a journal."""
        found = dict(self._failures)
        for failure in () if self._journal is None else read_failures(self._journal):
            found.setdefault(failure.slide, failure)
        return tuple(found.values())

    def prepare(
        self,
        slides: Sequence[CohortSlide],
        look: Callable[[CohortSlide], IndexedSlide],
        *,
        needed: Sequence[int],
        threads: int,
        progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Look at every slide; those that fail are named and left out.

        Parameters
        ----------
        slides
            To take patches from.
        look
            Returns what is to be known of one; it may be called from several threads.
        needed
            Classes that some slide has to give.
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
            If no slide gives patches of a class that is needed.
        """
        found: list[IndexedSlide] = []
        seen: list[SeenSlide] = []

        def attempt(slide: CohortSlide) -> IndexedSlide | SlideFailure | None:
            if should_stop is not None and should_stop():
                return None
            try:
                return look(slide)
            # Readers of damaged files raise what they like.
            except Exception as error:  # noqa: BLE001
                return SlideFailure(slide.name, in_one_line(error))

        with ThreadPoolExecutor(threads) as pool:
            for done, result in enumerate(pool.map(attempt, slides), start=1):
                if result is None:
                    pool.shutdown(cancel_futures=True)
                    return False
                if isinstance(result, IndexedSlide):
                    found.append(result)
                    seen.append(SeenSlide.of(result))
                else:
                    self._report(result)
                    seen.append(SeenSlide(result.slide))
                if progress is not None:
                    progress(done, len(slides))
        self._take(tuple(seen), tuple(found))
        for label in needed:
            if not len(self._of_class[label]):
                self.indexed = ()
                failed = "; ".join(f"{failure.slide}: {failure.reason}" for failure in self.failures)
                raise TrainingError(
                    f"expected slides that give {_CLASSES[label]} patches, got none of {len(slides)}; "
                    "check the annotations" + (f" ({failed})" if failed else "")
                )
        return True

    def resume_with(self, before: Sequence[SeenSlide]) -> None:
        """Go on with the slides that a run began with, so that its draws stay what they were.

        A slide that cannot be read any more keeps its number in every draw, and others stand in for its patches, as if
        it had failed in the middle of the run; one that could not be read then stays left out. Other slides than those
        that were asked for are no run to go on with, and change nothing.

        Parameters
        ----------
        before
            What was seen when the run began.
        """
        if [one.slide for one in before] != [one.slide for one in self.seen]:
            return
        self.close()
        self._unopened.clear()
        read = iter(self.indexed)
        seen, indexed = [], []
        for was, now in zip(before, self.seen, strict=True):
            slide = next(read) if now.sha256 else None
            known = slide is not None and was.sha256 == slide.earlier_fingerprint
            # A slide that was exchanged since shows in the fingerprint.
            seen.append(was if known or not was.sha256 or slide is None else now)
            if was.sha256:
                indexed.append(slide)
        self._take(tuple(seen), tuple(indexed))

    def batch(self, labels: npt.NDArray[np.int64], key: Sequence[int]) -> PatchBatch:
        """Return a crop for each label; every one has a generator of its own, seeded by key and row.

        Raises
        ------
        TrainingError
            If no slide of a class can be read any more.
        """
        images = np.empty((len(labels), self._crop.side_px, self._crop.side_px, 3), dtype=np.uint8)
        of_images = np.empty((len(labels), *self._crop.label_shape), dtype=np.int64)
        stains = []
        for row, label in enumerate(labels.tolist()):
            images[row], of_images[row], of_slide = self._patch(label, [*key, row])
            stains.append(of_slide)
        batch = PatchBatch.labelled(images, of_images)
        return replace(batch, stains=np.array(stains, np.float32)) if all(stains) else batch

    def close(self) -> None:
        """Close the slides and masks that this process holds open; the next batch opens them again."""
        for slide in self._open.values():
            slide.close()
        self._open.clear()
        for indexed in self.indexed:
            if indexed is not None:
                indexed.reference.close()

    def _patch(
        self, label: int, key: list[int]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[float, ...]]:
        """Return a crop around a location of a class, and its dyes, of the first slide in a random order with one."""
        for index in np.random.default_rng(key).permutation(self._of_class[label]).tolist():
            indexed = self.indexed[index]
            if indexed is None or index in self._unopened:
                continue
            try:
                slide = self._slide(index, indexed)
            except Exception as error:  # noqa: BLE001 - as above
                # Remembered: a file that is gone would be looked for again at every turn.
                self._unopened.add(index)
                self._report(SlideFailure(indexed.slide.name, in_one_line(error)))
                continue
            try:
                # A generator for each slide: what is drawn on one does not depend on what failed on another.
                generator = np.random.default_rng([*key, index])
                location = indexed.locations.draw(label, indexed.reference, generator)
                if location is not None:
                    return *self._crop.take(slide, indexed, location, label, generator), indexed.stains
            except Exception as error:  # noqa: BLE001 - as above
                self._report(SlideFailure(indexed.slide.name, in_one_line(error)))
        names = ", ".join(sorted(failure.slide for failure in self.failures)) or "none"
        raise TrainingError(
            f"expected a slide that gives {_CLASSES[label]} patches, but none of {len(self._of_class[label])} can be "
            f"read any more (failed: {names}); check the disk, then start again: the run goes on where it stopped"
        )

    def _slide(self, index: int, indexed: IndexedSlide) -> Slide:
        """Return a slide, opened unless it is open; of too many, the one used longest ago is closed."""
        if self._process != os.getpid():
            # A forked process must not read through what its parent opened.
            self._open.clear()
            self._process = os.getpid()
        slide = self._open.pop(index, None)
        if slide is None:
            if len(self._open) >= self._open_slides:
                oldest, evicted = self._open.popitem(last=False)
                evicted.close()
                # Its mask with it: a decoded picture may take more memory than the slide.
                closed = self.indexed[oldest]
                if closed is not None:
                    closed.reference.close()
            slide = open_indexed(indexed.slide)
        self._open[index] = slide
        return slide

    def _take(self, seen: tuple[SeenSlide, ...], indexed: tuple[IndexedSlide | None, ...]) -> None:
        self.seen, self.indexed = seen, indexed
        gives = [one.gives for one in seen if one.sha256]
        self._of_class = tuple(
            np.array([i for i, classes in enumerate(gives) if label in classes], dtype=np.int64) for label in (0, 1)
        )

    def _report(self, failure: SlideFailure) -> None:
        """Name a slide, the first time that it fails."""
        if failure.slide in {known.slide for known in self.failures}:
            return
        self._failures[failure.slide] = failure
        _LOG.warning("%s gives no patch here and is passed over: %s", failure.slide, failure.reason)
        if self._journal is not None:
            add_failure(self._journal, failure)

    def __del__(self) -> None:
        # They end with the loader or the worker that holds them; the attribute is missing where it was not made.
        if getattr(self, "_open", None):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Open files belong to their process.
        return {**self.__dict__, "_open": OrderedDict()}
