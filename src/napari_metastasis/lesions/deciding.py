"""What a person says of a lesion, as corrections: one for each lesion, and what is said last holds where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import shapely

from napari_metastasis.annotations import Correction, Corrections, Finding
from napari_metastasis.annotations.corrections import Label, now
from napari_metastasis.annotations.editing import erased, joined
from napari_metastasis.lesions.lesion import Findings
from napari_metastasis.lesions.reviewed import CorrectionCells, LesionReview, Reviewed

__all__ = ["Decision", "confirmed", "decide", "doubt", "unspoken_under"]

#: Probabilities are told apart no closer to 0 and 1 than this.
_SURE = 1e-4


def doubt(probability: float | None, threshold: float) -> float:
    """Return how far a probability lies from the threshold, as the difference of their logits: the less, the less sure.

    Of what no map says a probability of, it is infinite.
    """
    return math.inf if probability is None else abs(_logit(probability) - _logit(threshold))


def _logit(probability: float) -> float:
    bounded = min(max(probability, _SURE), 1 - _SURE)
    return math.log(bounded / (1 - bounded))


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said of a lesion.

    Attributes
    ----------
    corrections
        All of the slide, with it.
    key
        Of the correction that is about the lesion.
    """

    corrections: Corrections
    key: str


def decide(
    found: Findings,
    lesion: int,
    review: LesionReview,
    corrections: Corrections,
    label: Label,
    *,
    model: str,
    reviewer: str,
    comment: str | None = None,
) -> Decision:
    """Return the corrections of a slide with what a person says of one of its lesions.

    Parameters
    ----------
    found
        The lesions.
    lesion
        Which of them.
    review
        What was said of it so far.
    corrections
        All of the slide.
    label
        What lies there.
    model
        Name of the model that found it.
    reviewer
        Who says so.
    comment
        In one line; ``None`` for that of before.

    Returns
    -------
    One correction speaks of the lesion: an earlier one of a finding there, or a new one. Where another one says
    something else of the same place, what is said now holds there.

    Raises
    ------
    KeyError
        If there is no such lesion.
    AnnotationError
        If the comment or the name is no line of text.
    """
    fresh = _finding(found, lesion, model)
    earlier = [corrections[key] for key in review.about if key in corrections and corrections[key].found is not None]
    first = next(iter(earlier), None)
    shape = fresh.outline_px
    if first is not None and first.is_redrawn:
        # What a person drew stays; what is taken away is all that is shown there.
        shape = first.shape_px if label in ("tumour", "undecided") else joined([first.shape_px, shape])
    kept_comment = "" if first is None else first.comment
    said = Correction(
        key=Correction.new_key() if first is None else first.key,
        label=label,
        shape_px=shape,
        found=first.found if first is not None and first.is_redrawn else fresh,
        reviewer=reviewer,
        at=now(),
        comment=kept_comment if comment is None else comment,
    )
    others = [corrections[key] for key in review.keys if key in corrections and key != said.key]
    changed, gone = [], [one.key for one in earlier[1:]]
    for one in others:
        if one.key in gone or one.label in (label, "undecided") or label == "undecided":
            continue
        if isinstance(one.shape_px, shapely.Point):
            gone.append(one.key)
            continue
        left = erased(one.shape_px, shape)
        if left is None:
            gone.append(one.key)
        else:
            changed.append(replace(one, shape_px=left))
    return Decision(corrections.without(*gone).with_(*changed, said), said.key)


def _finding(found: Findings, lesion: int, model: str) -> Finding:
    shown = found.lesion(lesion)
    return Finding(
        model=model,
        map=found.map,
        threshold=found.threshold,
        probability=shown.probability,
        outline_px=shown.outline_px,
    )


def confirmed(found: Findings, lesion: int, *, model: str, reviewer: str) -> Correction:
    """Return a lesion of which nobody has spoken, as a correction that confirms it.

    Parameters
    ----------
    found, lesion, model, reviewer
        As :func:`decide` takes them.
    """
    finding = _finding(found, lesion, model)
    return Correction(
        key=Correction.new_key(),
        label="tumour",
        shape_px=finding.outline_px,
        found=finding,
        reviewer=reviewer,
        at=now(),
    )


def unspoken_under(
    found: Findings, reviewed: Reviewed, shape: shapely.Geometry, *, model: str, reviewer: str
) -> tuple[Correction, ...]:
    """Return the lesions that a shape touches and of which nobody has spoken, as corrections that confirm them.

    Parameters
    ----------
    found
        The lesions.
    reviewed
        What was said of them.
    shape
        An area or a line, in level-0 pixels.
    model
        Name of the model that found them.
    reviewer
        Who confirms them.
    """
    area = shape if shape.area > 0 else shape.buffer(found.frame.cell_px / 2)
    labels = np.unique(CorrectionCells(found.frame).under(area, found.labels)).tolist()
    made = []
    for lesion in labels:
        if lesion and not reviewed.review(lesion).about:
            one = confirmed(found, lesion, model=model, reviewer=reviewer)
            if shapely.intersects(_sound(one.shape_px), shape):
                made.append(one)
    return tuple(made)


def _sound(area: shapely.Geometry) -> shapely.Geometry:
    return area if area.is_valid else shapely.make_valid(area)
