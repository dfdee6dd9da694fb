"""Detections against the lesions of the same slide: hits, misses and false positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.errors import EvaluationError
from napari_metastasis.evaluation.detections import SlideDetections
from napari_metastasis.evaluation.reference_lesions import SlideReference
from napari_metastasis.lesions.size_classes import SizeClass

__all__ = ["LesionOutcome", "SlideOutcome", "match_slide"]


@dataclass(frozen=True, slots=True)
class LesionOutcome:
    """What became of one lesion.

    Attributes
    ----------
    is_target
        False for isolated tumour cells, which nobody has to find.
    size_class
        By the lesion's length.
    probability
        Of its strongest hit; ``None`` where it was missed.
    """

    is_target: bool
    size_class: SizeClass
    probability: float | None

    @property
    def is_found(self) -> bool:
        """Return whether any detection hit it."""
        return self.probability is not None


@dataclass(frozen=True, slots=True, eq=False)
class SlideOutcome:
    """One slide's share of every figure.

    Attributes
    ----------
    slide
        The slide's name.
    score
        How likely the slide holds a metastasis.
    is_tumour
        Whether it does, if only isolated tumour cells.
    lesions
        What became of each.
    false_positives
        (n,) float64: probabilities of the detections outside all lesions.
    on_itc, repeated
        Detections that count nothing: those in isolated tumour cells, and those beside a lesion's strongest hit.
    mpp, downsample
        Pixel size of level 0 in µm, and level-0 pixels along a pixel of the scored mask; ``None`` where they are those
        of the settings.
    """

    slide: str
    score: float
    is_tumour: bool
    lesions: tuple[LesionOutcome, ...]
    false_positives: NDArray[np.float64]
    on_itc: int = 0
    repeated: int = 0
    mpp: float | None = None
    downsample: int | None = None

    @property
    def targets(self) -> int:
        """Return how many lesions were to be found."""
        return sum(lesion.is_target for lesion in self.lesions)

    @property
    def hits(self) -> tuple[float, ...]:
        """Return the probability of the strongest hit of every target that was found."""
        return tuple(
            lesion.probability for lesion in self.lesions if lesion.is_target and lesion.probability is not None
        )


def match_slide(detections: SlideDetections, reference: SlideReference) -> SlideOutcome:
    """Return what the detections of a slide hit.

    A lesion keeps its strongest hit and the others are free. The organisers' scripts write a missed lesion down as one
    found with probability 0; here a miss is a miss, and a hit of probability 0 a hit.

    Raises
    ------
    EvaluationError
        If the two are of different slides, or a detection lies off the slide.
    """
    if detections.slide != reference.slide:
        raise EvaluationError(
            f"expected detections and truth of one slide, got {detections.slide} and {reference.slide}; "
            "pair them by name"
        )
    _check_extent(detections, reference)
    at = reference.lesion_at(detections.points)
    is_target = np.array([lesion.is_target for lesion in reference.lesions], dtype=bool)
    hits = [detections.probabilities[at == number] for number in range(len(reference.lesions))]
    on_target = int(is_target[at[at >= 0]].sum())
    found = sum(bool(len(hit)) for hit, target in zip(hits, is_target, strict=True) if target)
    return SlideOutcome(
        slide=reference.slide,
        score=detections.score,
        is_tumour=reference.is_tumour,
        lesions=tuple(
            LesionOutcome(
                is_target=lesion.is_target,
                size_class=lesion.size_class,
                probability=float(hit.max()) if len(hit) else None,
            )
            for lesion, hit in zip(reference.lesions, hits, strict=True)
        ),
        false_positives=detections.probabilities[at < 0],
        on_itc=int((at >= 0).sum()) - on_target,
        repeated=on_target - found,
        mpp=reference.mpp,
        downsample=reference.downsample,
    )


def _check_extent(detections: SlideDetections, reference: SlideReference) -> None:
    """Refuse detections off the slide: the mask is of another level, or the locations are not level-0 pixels."""
    if reference.extent is None or not len(detections):
        return
    width, height = reference.extent
    off = (detections.points < 0).any(axis=1) | (detections.points >= (width, height)).any(axis=1)
    if off.any():
        x, y = detections.points[off][0]
        raise EvaluationError(
            f"expected detections on {reference.slide}, which is {width:g} x {height:g} px, got one at ({x:g}, {y:g}); "
            "check the mask's downsample, and that locations are level-0 pixels"
        )
