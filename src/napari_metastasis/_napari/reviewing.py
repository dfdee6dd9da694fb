"""What is said of a row of the table, as a step that can be taken back. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import shapely

from napari_metastasis._napari.said_rows import SaidRow
from napari_metastasis.annotations.corrections import Label, now, relabelled
from napari_metastasis.geometry import Point
from napari_metastasis.lesions import LesionReview, decide

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Correction
    from napari_metastasis.lesions import Findings, LesionRow

__all__ = ["Place", "comment_on", "correction_of", "is_row_of", "place_of", "say_of"]

_DONE = {"tumour": "Confirm", "normal": "Reject", "ignore": "Ignore", "undecided": "Take back what was said of"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a correction lies.

    Attributes
    ----------
    middle
        A location in it, in level-0 pixels.
    length_px
        Its longer side.
    lesion
        Id of the lesion at that location; 0 where there is none.
    """

    middle: Point
    length_px: float
    lesion: int


def place_of(correction: Correction, found: Findings | None) -> Place:
    """Return where a correction lies, among the lesions that are shown."""
    left, top, right, bottom = correction.shape_px.bounds
    inside = shapely.point_on_surface(correction.shape_px)
    middle, lesion = Point(float(inside.x), float(inside.y)), 0
    if found is not None:
        cell, labels = found.frame.cell_at(middle), found.labels
        row, column = round(cell.y), round(cell.x)
        if 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]:
            lesion = int(labels[row, column])
    return Place(middle, max(right - left, bottom - top), lesion)


def is_row_of(row: LesionRow, correction: Correction, lesion: int) -> bool:
    """Return whether a row stands for a correction, or for the lesion that it lies on."""
    return row.key == correction.key if isinstance(row, SaidRow) else row.id == lesion > 0


def correction_of(session: SlideSession, row: LesionRow) -> Correction | None:
    """Return what was said of a row; ``None`` where nothing was."""
    corrections = session.corrections.present
    if isinstance(row, SaidRow):
        return corrections.by_key.get(row.key)
    review = LesionReview() if session.reviewed is None else session.reviewed.review(row.id)
    held = (corrections.by_key.get(key) for key in (*review.about, *review.keys))
    return next((one for one in held if one is not None), None)


def say_of(session: SlideSession, row: LesionRow, label: Label, *, reviewer: str, comment: str | None = None) -> None:
    """Say what lies in a row.

    Parameters
    ----------
    session
        Of the slide.
    row
        A lesion that is shown, or what a person said of none.
    label
        What lies there.
    reviewer
        Who says so.
    comment
        In one line; ``None`` for that of before.
    """
    corrections, found = session.corrections.present, session.found
    what = f"{_DONE[label]} {_name(row)}" if comment is None else f"Comment on {_name(row)}"
    if isinstance(row, SaidRow):
        held = corrections.by_key.get(row.key)
        if held is not None:
            said = relabelled(held, label, reviewer=reviewer)
            said = said if comment is None else replace(said, comment=comment)
            session.corrections.do(what, corrections.with_(said))
        return
    if found is None:
        return
    review = LesionReview() if session.reviewed is None else session.reviewed.review(row.id)
    decision = decide(
        found,
        row.id,
        review,
        corrections,
        label,
        model=session.model_name,
        reviewer=reviewer,
        comment=comment,
    )
    session.corrections.do(what, decision.corrections)


def comment_on(session: SlideSession, row: LesionRow, comment: str, *, reviewer: str) -> None:
    """Write something of a row, and say nothing else of it."""
    held = correction_of(session, row)
    if held is None:
        say_of(session, row, "undecided", reviewer=reviewer, comment=comment)
    elif held.comment != comment:
        said = replace(held, comment=comment, reviewer=reviewer, at=now())
        session.corrections.do(f"Comment on {_name(row)}", session.corrections.present.with_(said))


def _name(row: LesionRow) -> str:
    return "a lesion drawn by hand" if isinstance(row, SaidRow) else f"finding {row.id}"
