"""What a cohort is: slides with their annotations and splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_metastasis.slide_address import SlidePath

__all__ = ["SPLITS", "Cohort", "CohortSlide", "LayoutName", "LeftOutSlide", "Split"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

LayoutName = Literal["file", "camelyon16", "camelyon17", "images-and-masks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSlide:
    """One slide of a cohort.

    Attributes
    ----------
    name
        What result files are named after: the file's name without its suffix.
    path
        The slide: a file, a folder or an address.
    annotation
        Outlines (ASAP XML, GeoJSON) or a mask, or where mitoses are looked for points (the same, CSV, MIDOG's JSON);
        ``None`` for a slide without any.
    split
        ``train``, ``validation`` or ``test``.
    patient, node
        Whom it was taken from, and which lymph node; ``None`` where unknown. A patient's slides share a split.
    tumour
        Whether the slide holds tumour. ``None``: the annotation decides, and without one the slide is normal.
    mpp
        µm per level-0 pixel where the file does not state it, or states it wrongly.
    swap_red_blue
        Whether the file holds red and blue in each other's place.
    exhaustive
        Whether all its tumour, or every mitosis, is annotated. Where it is not, what lies outside the outlines is not
        known to be normal, and what is found beside the points not to be false.
    """

    name: str
    path: SlidePath
    annotation: Path | None = None
    split: Split = "train"
    patient: str | None = None
    node: str | None = None
    tumour: bool | None = None
    mpp: float | None = None
    swap_red_blue: bool = False
    exhaustive: bool = True

    @property
    def may_hold_tumour(self) -> bool:
        """Return whether tumour may be outlined on it, as far as can be told without reading the annotation."""
        return self.annotation is not None and self.tumour is not False

    @property
    def shows_normal(self) -> bool:
        """Return whether what lies outside its outlines is known to be normal."""
        return self.exhaustive and (self.annotation is not None or self.tumour is not True)


@dataclass(frozen=True, slots=True)
class LeftOutSlide:
    """A slide that lies there and is not used, and why."""

    slide: CohortSlide
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Slides with their annotations and splits.

    Attributes
    ----------
    slides
        Sorted by split as they were found.
    origin
        The file or folder that it was read from.
    layout
        How the origin is laid out.
    left_out
        Slides that are known to mislead.
    """

    slides: tuple[CohortSlide, ...]
    origin: Path
    layout: LayoutName
    left_out: tuple[LeftOutSlide, ...] = ()

    @property
    def may_lack_outlines(self) -> bool:
        """Return whether a tumour slide may lack outlines on purpose.

        A cohort file says so on purpose, and CAMELYON17 outlines only some of its slides.
        """
        return self.layout in ("file", "camelyon17")

    def of(self, split: Split) -> tuple[CohortSlide, ...]:
        """Return the slides of a split, in order."""
        return tuple(slide for slide in self.slides if slide.split == split)
