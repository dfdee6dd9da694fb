"""What is to be known of a slide before patches are taken from it: its tumour, and where its patches lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import TumourReference, open_reference
from napari_metastasis.geometry import ModelFrame, Region
from napari_metastasis.sampling.known_normal import KnownNormal
from napari_metastasis.sampling.locations import PatchShape
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slides import Slide, earlier_fingerprint, fingerprint, open_slide, tissue_mask
from napari_metastasis.slides.stains import slide_stain_matrix

__all__ = ["IndexedSlide", "Locations", "SeenSlide", "index_slide", "open_indexed"]

#: Random locations share no tiles, so that little is kept of each slide; enough for a picture that is decoded whole.
_CACHE_MIB = 4
_REMEDY = "train a network that reads colours as they are to use it"


class Locations(Protocol):
    """Where patches of each class can be taken from one slide. Picklable."""

    @property
    def frame(self) -> ModelFrame:
        """Return the model's pixels on the slide."""
        ...

    @property
    def shape(self) -> PatchShape:
        """Return what of a patch decides its label."""
        ...

    def gives(self, label: int) -> bool:
        """Return whether there are any of a class."""
        ...

    def draw(self, label: int, reference: TumourReference, generator: np.random.Generator) -> Region | None:
        """Return a random patch of a class, in model pixels, or ``None`` where none is found."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class IndexedSlide:
    """A slide that patches are taken from: all that a worker needs to know of it.

    Attributes
    ----------
    slide, reference, locations
        The slide, where its tumour is, and where its patches lie.
    fingerprint
        SHA-256 of the slide and its annotation.
    earlier_fingerprint
        What runs of earlier versions know them by.
    stains
        The slide's dyes, eight numbers; empty where they are not needed.
    """

    slide: CohortSlide
    reference: TumourReference
    locations: Locations
    fingerprint: str
    earlier_fingerprint: str
    stains: tuple[float, ...] = ()

    @property
    def known_normal(self) -> KnownNormal:
        """Return where what is not tumour is known to be normal."""
        return KnownNormal.of(self.slide, self.reference)


@dataclass(frozen=True, slots=True)
class SeenSlide:
    """What a look at a slide found, in so far as it decides what is drawn.

    Attributes
    ----------
    slide
        Its name.
    sha256
        Fingerprint of the slide and its annotation; empty where the slide could not be read.
    gives
        Classes that it gives patches of.
    """

    slide: str
    sha256: str = ""
    gives: tuple[int, ...] = ()

    @classmethod
    def of(cls, indexed: IndexedSlide) -> SeenSlide:
        """Return what was found of a slide that could be read."""
        return cls(indexed.slide.name, indexed.fingerprint, tuple(k for k in (0, 1) if indexed.locations.gives(k)))


def open_indexed(slide: CohortSlide) -> Slide:
    """Open a slide of a cohort for single patches.

    Raises
    ------
    SlideError
        If it cannot be opened.
    """
    settings = replace(SlideSettings(), cache_mib=_CACHE_MIB, threads=1)
    return open_slide(slide.path, slide.mpp, settings, swap_red_blue=slide.swap_red_blue)


def index_slide(
    slide: CohortSlide,
    tumour_value: int,
    find: Callable[[Slide, TumourReference], Locations],
    *,
    tells_stains: bool = False,
) -> IndexedSlide:
    """Return what is to be known of a slide.

    Parameters
    ----------
    slide
        The slide.
    tumour_value
        The class that means tumour in masks of small numbers.
    find
        Finds the locations on the open slide.
    tells_stains
        Whether its dyes have to be known.

    Raises
    ------
    SlideError
        If it cannot be opened.
    StainError
        If its dyes have to be known, and cannot be told apart.
    AnnotationError
        If its annotation cannot be read.
    """
    with open_indexed(slide) as opened:
        reference = open_reference(slide.annotation, slide=opened.size, bounds=opened.bounds, tumour_value=tumour_value)
        # Closed, and opened again by whoever reads there: a cohort's masks are more files than a process should hold.
        with closing(reference):
            locations = find(opened, reference)
        stains = slide_stain_matrix(opened, tissue_mask(opened), remedy=_REMEDY).numbers if tells_stains else ()
        known_as = _fingerprint_of(slide, opened.mpp, opened.fingerprint, lambda path: fingerprint([path]))
        earlier = _fingerprint_of(slide, opened.mpp, opened.earlier_fingerprint, earlier_fingerprint)
    return IndexedSlide(slide, reference, locations, known_as, earlier, stains)


def _fingerprint_of(slide: CohortSlide, mpp: float, of_slide: str, of_file: Callable[[Path], str]) -> str:
    """Return a SHA-256 of a slide and its annotation."""
    told = f"{slide.name} {of_slide} {mpp} {slide.exhaustive}"
    digest = hashlib.sha256(told.encode(errors="backslashreplace"))
    if slide.annotation is not None:
        digest.update(bytes.fromhex(of_file(slide.annotation)))
    return digest.hexdigest()
