"""What is said of a slide in a few words: how much of it was scanned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession

__all__ = ["SlideState", "not_told_above", "slide_state"]


@dataclass(frozen=True, slots=True)
class SlideState:
    """How far a slide is, for a person.

    Attributes
    ----------
    short
        For a list: "not scanned", "36 % scanned", "scanned", "reviewed".
    long
        For the panel, one sentence; with what a result does not answer for.
    kind
        "none" before anything was scanned, "working" while something is being done, "part" where the result does not
        answer for the slide, "whole" where it does.
    """

    short: str
    long: str
    kind: Literal["none", "working", "part", "whole"]


def slide_state(session: SlideSession) -> SlideState:
    """Return how far a slide is."""
    activity, coverage = session.activity, session.coverage
    if activity.busy:
        share = f" {activity.done / activity.total:.0%}" if activity.total else "…"
        stage = activity.stage or "Scanning"
        known = coverage is not None and coverage.percent and session.heatmap is not None and not activity.outlining
        long = f"{stage}: {coverage.percent} of the tissue so far" if coverage is not None and known else stage
        # The same share as above the findings: that of the work counts later passes, and not what was scanned before.
        share = f" {coverage.percent}" if coverage is not None and known else share.replace("%", " %")
        if activity.outlining:
            return SlideState(f"outlining{share}", f"{stage}:{share} done", "working")
        short = f"scanning{share}"
        return SlideState(short, long, "working")
    if session.heatmap is None:
        if session.looking:
            return SlideState("…", "Looking for an earlier result…", "working")
        return SlideState("not scanned", "Not scanned yet", "none")
    if coverage is None:
        return SlideState("…", "Finding out how much of the tissue was scanned…", "working")
    said = f"{coverage.sentence}. Reviewed" if session.is_reviewed else coverage.sentence
    if coverage.whole:
        return SlideState("reviewed" if session.is_reviewed else "scanned", said, "whole")
    short = f"{coverage.percent} scanned" if coverage.percent else "no tissue"
    return SlideState(f"{short}, reviewed" if session.is_reviewed else short, said, "part")


def not_told_above(session: SlideSession) -> str:
    """Return what a session's activity says beyond the line above the findings."""
    stage, coverage = session.activity.stage, session.coverage
    for said in () if coverage is None else (coverage.sentence, f"{session.origin}. {coverage.sentence}"):
        stage = stage.removeprefix(said)
    return stage.removeprefix(". ")
