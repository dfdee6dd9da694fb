"""What travels between a command and the workers that scan for it: plain values, all of them picklable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from napari_metastasis.scanning import SlidePart
from napari_metastasis.workflows.scan.batch import CohortWork, FailedSlide, ScannedSlide

__all__ = ["TOPIC", "Answer", "Errand", "Note", "Seen", "Terms", "TooLarge"]

#: Under which workers tell their progress.
TOPIC = "napari-metastasis"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker must share with the command before it scans anything.

    Attributes
    ----------
    run
        Name of the run, like no other.
    version
        Of this program.
    weights
        SHA-256 of every model's weights, by the model's task.
    paths
        Files and folders that a worker must see under the same path.
    """

    run: str
    version: str
    weights: Mapping[str, str]
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker has and sees.

    Attributes
    ----------
    version, weights
        As :class:`Terms` has them.
    missing
        Paths that it does not see.
    precision
        Number format that its engine computes in.
    host
        Name of its machine.
    """

    version: str
    weights: Mapping[str, str]
    missing: tuple[Path, ...]
    precision: str
    host: str

    def refusal(self, terms: Terms, address: str) -> str:
        """Return why a worker may not scan, in one line; empty where it may."""
        where = f"{address} ({self.host})"
        if self.version != terms.version:
            return (
                f"expected workers with napari-metastasis {terms.version}, got {self.version} at {where}; install the "
                "same version there"
            )
        if self.missing:
            return (
                f"expected workers that see {self.missing[0]}, got {where}, which does not; mount its folder there "
                "under the same path"
            )
        if dict(self.weights) != dict(terms.weights):
            return f"expected workers with the same weights, got others at {where}; put the same models there"
        return ""


@dataclass(frozen=True, slots=True)
class Errand(Generic[T]):
    """One task: a slide, or a part of one.

    Attributes
    ----------
    terms
        For a worker that came later than all others.
    number
        Of the slide.
    work
        The slide alone.
    part
        The part; ``None`` for the slide.
    most_px
        A slide with more model pixels than this is not begun; 0 begins any.
    failures
        How often it failed before.
    """

    terms: Terms
    number: int
    work: CohortWork[T]
    part: SlidePart | None = None
    most_px: int = 0
    failures: int = 0

    @property
    def told_as(self) -> tuple[int, int]:
        """Return by what its progress is told: the numbers of slide and part, -1 for the slide itself."""
        return self.number, -1 if self.part is None else self.part.number

    def parts(self, count: int) -> list[Errand[T]]:
        """Return the slide in so many parts."""
        return [replace(self, part=SlidePart(number, count), most_px=0, failures=0) for number in range(count)]

    def whole(self) -> Errand[T]:
        """Return the scan of the slide that takes what its parts have answered, however much is left."""
        return replace(self, part=None, most_px=0, failures=0)


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A slide that is to be scanned in parts, and its model pixels."""

    model_px: int


@dataclass(frozen=True, slots=True)
class Note:
    """What a worker would have said: a warning of this program's own, or where ``kind`` is empty a line of its log."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What became of an errand; ``None`` of a part that is answered."""

    found: ScannedSlide[T] | FailedSlide | TooLarge | None
    notes: tuple[Note, ...]
