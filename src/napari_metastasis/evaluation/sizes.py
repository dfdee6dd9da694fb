"""Which lesions were found, by their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_metastasis.evaluation.matching import SlideOutcome
from napari_metastasis.evaluation.resampling import Estimate, Resamples, estimate
from napari_metastasis.lesions.size_classes import SIZE_CLASSES, SizeClass

__all__ = ["SizeFigures", "sensitivity_by_size"]


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """The lesions of one size class.

    Attributes
    ----------
    size_class
        Of the lesions' own lengths; a lesion of isolated cells by length can be a target of the challenge, which
        measures grown lesions, and the other way round.
    lesions, found
        How many there are, and how many any detection hit, isolated cells included.
    sensitivity
        Their share; NaN where there are none.
    """

    size_class: SizeClass
    lesions: int
    found: int
    sensitivity: Estimate


def sensitivity_by_size(outcomes: Sequence[SlideOutcome], resamples: Resamples) -> tuple[SizeFigures, ...]:
    """Return the figures of every size class, the smallest first."""
    classes = tuple(SIZE_CLASSES)
    lesions, found = (
        np.array(
            [
                [sum(one.size_class == name for one in slide.lesions if one.is_found or every) for name in classes]
                for slide in outcomes
            ],
            dtype=np.int64,
        ).reshape(-1, len(classes))
        for every in (True, False)
    )

    def measure(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        whole, part = counts @ lesions, counts @ found
        return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)

    figures = estimate(measure, resamples, width=len(outcomes))
    return tuple(
        SizeFigures(size_class=name, lesions=int(there), found=int(hit), sensitivity=figure)
        for name, there, hit, figure in zip(classes, lesions.sum(axis=0), found.sum(axis=0), figures, strict=True)
    )
