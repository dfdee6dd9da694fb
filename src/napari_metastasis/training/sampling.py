"""Patches straight from slides, class first, then slide, then place, so that no slide dominates.

Zheng et al. 2022 (4.1) choose a class, then a slide that holds it, each with the same probability, and take places from
that slide; Lin et al. 2019 (II-A) fetch the classes under set probabilities. Nothing is cut to disk beforehand.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_metastasis.annotations import MaskFile, detect_tumour_value
from napari_metastasis.errors import AnnotationError, MetastasisError, TrainingError
from napari_metastasis.models import ModelSpec
from napari_metastasis.settings import SamplingSettings, SlideSettings
from napari_metastasis.slides import Slide, open_slide
from napari_metastasis.storage import storage_errors
from napari_metastasis.training.cohort import CohortSlide
from napari_metastasis.training.places import SlidePlaces, find_places
from napari_metastasis.training.streams import PatchBatch
from napari_metastasis.training.truth import TumourTruth, is_mask, open_truth

__all__ = ["SlideFailure", "SlideStream", "tumour_value_of"]

_LOG = logging.getLogger(__name__)

#: Random places share no tiles, so that little is kept of each slide; enough for a picture that is decoded whole.
_CACHE_MIB = 4
_CLASSES = ("normal", "tumour")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SlideFailure:
    """A slide that patches could not be taken from, and why.

    Attributes
    ----------
    slide
        Its name.
    reason
        One line: what was expected, what came, what to do.
    """

    slide: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """A slide that is sampled: all that a worker needs to know of it."""

    slide: CohortSlide
    truth: TumourTruth
    places: SlidePlaces
    fingerprint: str


class SlideStream:
    """Batches of patches from slides: a :class:`~napari_metastasis.training.streams.PatchStream`.

    Batch ``k`` depends on the slides, the settings, the seed and ``k`` alone: every patch has a generator of its own. A
    patch that cannot be read is replaced by one of the next slide in an order that was drawn beforehand; the slide is
    named once, in the log and in :attr:`failures`. One that cannot even be opened is not tried again.

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
        self.journal = journal
        self._members: tuple[_Member, ...] | None = None
        self._of_class: tuple[npt.NDArray[np.int64], ...] = ()
        self._failures: dict[str, SlideFailure] = {}
        self._unopened: set[int] = set()
        self._open: OrderedDict[int, Slide] = OrderedDict()
        self._process = os.getpid()

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
            "slides": [member.fingerprint for member in self._prepared()],
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def failures(self) -> tuple[SlideFailure, ...]:
        """Return every slide that patches could not be taken from, once each; of all processes that share a journal."""
        found = dict(self._failures)
        if self.journal is not None and self.journal.exists():
            with storage_errors(self.journal):
                lines = self.journal.read_text(encoding="utf-8").splitlines()
            for line in lines:
                values = json.loads(line)
                found.setdefault(values["slide"], SlideFailure(values["slide"], values["reason"]))
        return tuple(found.values())

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many slides give normal and how many give tumour patches; prepares the stream."""
        self._prepared()
        return len(self._of_class[0]), len(self._of_class[1])

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
        if self._members is not None:
            return True
        value = self.settings.tumour_value or tumour_value_of(self.slides)
        usable = [slide for slide in self.slides if slide.annotation is not None or slide.shows_normal]
        found: list[_Member] = []

        def look(slide: CohortSlide) -> _Member | SlideFailure | None:
            if should_stop is not None and should_stop():
                return None
            try:
                return _look_at(slide, self.spec, self.settings, value)
            except (MetastasisError, OSError) as error:
                return SlideFailure(slide.name, str(error))

        with ThreadPoolExecutor(threads) as pool:
            for done, result in enumerate(pool.map(look, usable), start=1):
                if result is None:
                    pool.shutdown(cancel_futures=True)
                    return False
                if isinstance(result, _Member):
                    found.append(result)
                else:
                    self._report(result)
                if progress is not None:
                    progress(done, len(usable))
        self._take(tuple(found))
        return True

    def batch(self, number: int) -> PatchBatch:
        """Return batch ``number``.

        Raises
        ------
        TrainingError
            If no slide of a class can be read any more.
        """
        self._prepared()
        generator = np.random.default_rng([self.seed, number])
        # Rounded up or down at random, so that the share holds over many batches of any size.
        tumour = int(self.settings.tumour_share * self.batch_size + generator.random())
        labels = generator.permutation(np.arange(self.batch_size) < tumour).astype(np.int64)
        images = np.empty((self.batch_size, self.patch_px, self.patch_px, 3), dtype=np.uint8)
        for row, label in enumerate(labels.tolist()):
            images[row] = self._patch(label, [self.seed, number, row])
        return PatchBatch(images, labels)

    def close(self) -> None:
        """Close the slides and masks that this process holds open; the next batch opens them again."""
        for slide in self._open.values():
            slide.close()
        self._open.clear()
        for member in self._members or ():
            member.truth.close()

    def _patch(self, label: int, key: list[int]) -> npt.NDArray[np.uint8]:
        """Return a patch of a class, from the first slide in a random order that gives one."""
        members = self._prepared()
        for index in np.random.default_rng(key).permutation(self._of_class[label]).tolist():
            if index in self._unopened:
                continue
            member = members[index]
            try:
                slide = self._slide(index)
            except (MetastasisError, OSError) as error:
                # Remembered: a file that is gone would be looked for again at every turn.
                self._unopened.add(index)
                self._report(SlideFailure(member.slide.name, str(error)))
                continue
            try:
                # A generator for each slide: what is drawn on one does not depend on what failed on another.
                place = member.places.draw(label, member.truth, np.random.default_rng([*key, index]))
                if place is not None:
                    return slide.read(member.places.frame, place)
            except (MetastasisError, OSError) as error:
                self._report(SlideFailure(member.slide.name, str(error)))
        names = ", ".join(sorted(failure.slide for failure in self.failures)) or "none"
        raise TrainingError(
            f"expected a slide that gives {_CLASSES[label]} patches, but none of {len(self._of_class[label])} can be "
            f"read any more (failed: {names}); check the disk, then start again: the run goes on where it stopped"
        )

    def _slide(self, index: int) -> Slide:
        """Return a slide, opened unless it is open; the one used longest ago is closed where there are too many."""
        if self._process != os.getpid():
            # A forked process must not read through what its parent opened.
            self._open.clear()
            self._process = os.getpid()
        slide = self._open.pop(index, None)
        if slide is None:
            if len(self._open) >= self.settings.open_slides:
                self._open.popitem(last=False)[1].close()
            slide = _open(self._prepared()[index].slide)
        self._open[index] = slide
        return slide

    def _prepared(self) -> tuple[_Member, ...]:
        if self._members is None:
            self.prepare(threads=1)
        assert self._members is not None
        return self._members

    def _take(self, members: tuple[_Member, ...]) -> None:
        of_class = tuple(
            np.array([i for i, member in enumerate(members) if len(member.places.centers[label])], dtype=np.int64)
            for label in (0, 1)
        )
        for name, found in zip(_CLASSES, of_class, strict=True):
            if not len(found):
                failed = "; ".join(f"{failure.slide}: {failure.reason}" for failure in self._failures.values())
                raise TrainingError(
                    f"expected slides that give {name} patches, got none of {len(self.slides)}; check the annotations"
                    + (f" ({failed})" if failed else "")
                )
        self._members, self._of_class = members, of_class

    def _report(self, failure: SlideFailure) -> None:
        """Name a slide, the first time that it fails."""
        if failure.slide in {known.slide for known in self.failures}:
            return
        self._failures[failure.slide] = failure
        _LOG.warning("%s gives no patch here and is passed over: %s", failure.slide, failure.reason)
        if self.journal is not None:
            line = json.dumps({"slide": failure.slide, "reason": failure.reason}) + "\n"
            with storage_errors(self.journal), self.journal.open("ab", buffering=0) as file:
                # One write at the end of the file: lines of several processes do not mix.
                file.write(line.encode())

    def __del__(self) -> None:
        # A stream ends with the loader or the worker that holds it; the attribute is missing where it was not made.
        if getattr(self, "_open", None):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        # Open files belong to their process.
        return {**self.__dict__, "_open": OrderedDict()}


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


def _open(slide: CohortSlide) -> Slide:
    return open_slide(slide.path, slide.mpp, replace(SlideSettings(), cache_mib=_CACHE_MIB, threads=1))


def _look_at(slide: CohortSlide, spec: ModelSpec, settings: SamplingSettings, tumour_value: int) -> _Member:
    """Return what is to be known of a slide."""
    with _open(slide) as opened:
        truth = open_truth(slide.annotation, slide=opened.size, bounds=opened.bounds, tumour_value=tumour_value)
        places = find_places(opened, truth, spec, settings, shows_normal=slide.shows_normal)
        # Opened again by whoever reads there: a cohort's masks are more files than a process should hold.
        truth.close()
        digest = hashlib.sha256(f"{slide.name} {opened.fingerprint} {opened.mpp} {slide.exhaustive}".encode())
    if slide.annotation is not None:
        digest.update(_annotation_digest(slide.annotation))
    return _Member(slide, truth, places, digest.hexdigest())


def _annotation_digest(path: Path) -> bytes:
    """Return a hash of a file's size and of its first and last MiB: masks may be large."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(str(size).encode())
        for start in (0, max(0, size - _MIB)):
            file.seek(start)
            digest.update(file.read(_MIB))
    return digest.digest()
