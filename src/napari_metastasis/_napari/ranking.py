"""In which order findings are looked at, and how what was said of them is marked. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from napari_metastasis.workflows.dates import day_text

if TYPE_CHECKING:
    from napari_metastasis.annotations.corrections import State
    from napari_metastasis.lesions import LesionRow

__all__ = ["MARKS", "STATE_WORDS", "UNCLEAR_MARK", "Ranking", "counter_text", "hidden_text", "said_text"]

#: What stands for each state; told apart by their forms, whatever a person sees of colours.
MARKS: Mapping[State, str] = {
    "pending": "",
    "confirmed": "✓",
    "rejected": "✗",
    "ignored": "–",
    "added": "+",
    "normal": "✗",
}
#: The same in words.
STATE_WORDS: Mapping[State, str] = {
    "pending": "not reviewed",
    "confirmed": "confirmed",
    "rejected": "rejected",
    "ignored": "ignored",
    "added": "drawn by hand",
    "normal": "marked as normal",
}
#: Of what was said that does not clearly apply.
UNCLEAR_MARK = "?"


class Ranking(Enum):
    """In which order findings are looked at: those that nobody decided on first."""

    FILES = "As in the files"
    SIZE = "Largest first"
    PROBABILITY = "Most probable first"
    DOUBT = "Least certain first"

    def sort_key(self, threshold: float) -> Callable[[LesionRow], Any]:
        """Return what findings are sorted by."""
        if self is Ranking.SIZE:
            return lambda lesion: (-lesion.length_mm, -lesion.area_mm2)
        if self is Ranking.PROBABILITY:
            return lambda lesion: 1.0 if lesion.probability is None else -lesion.probability
        from napari_metastasis.lesions import doubt

        return lambda lesion: doubt(lesion.probability, threshold)


def counter_text(decided: int, count: int) -> str:
    """Return how far a person is: "3 of 17 reviewed, 14 left"."""
    if not count:
        return ""
    if decided == count:
        return "The only finding is reviewed" if count == 1 else f"All {count} findings reviewed"
    return f"{decided} of {count} reviewed, {count - decided} left"


def hidden_text(hidden: int) -> str:
    """Return how many decided findings the threshold hides; empty where it hides none."""
    if not hidden:
        return ""
    is_one = hidden == 1
    return f"{hidden} decided finding{'' if is_one else 's'} {'is' if is_one else 'are'} not shown at this threshold"


def said_text(state: State, *, is_clear: bool, reviewer: str, at: datetime | None) -> str:
    """Return who said what of a finding, and when: "Confirmed by Dr. Ada, 30 Nov 14:03"; empty where nothing was.

    Parameters
    ----------
    state
        What it is now.
    is_clear
        Whether what was said clearly applies to it.
    reviewer
        Who said so; may be empty.
    at
        When; ``None`` where nothing was said.
    """
    if not is_clear:
        return "What was said does not clearly fit this finding: look again"
    if state == "pending" or at is None:
        return ""
    words = STATE_WORDS[state]
    local = at.astimezone()
    by = f" by {reviewer}" if reviewer else ""
    return f"{words[:1].upper()}{words[1:]}{by}, {day_text(local)} {local:%H:%M}"
