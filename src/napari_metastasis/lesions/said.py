"""What a person said of a lesion: a plain value, as tables and files have it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from napari_metastasis.annotations import Finding
from napari_metastasis.annotations.corrections import State

__all__ = ["LesionReview", "ReviewState"]

#: As files have it; "unknown" is that of lesions whose corrections cannot be read.
ReviewState = State | Literal["unknown"]


@dataclass(frozen=True, slots=True)
class LesionReview:
    """What a person has said of a lesion.

    Attributes
    ----------
    state
        "confirmed", "rejected" or "ignored"; "pending" where nothing was said, or nothing that is clear. Of what a
        person outlined: "added" without a model's finding, else "confirmed".
    keys
        Of the corrections that overlap it, the one that shares most first.
    is_clear
        Whether what they say fits together and fits the lesion: where it does not, it has to be looked at again.
    about
        Of those that share half of the smaller of both.
    reviewer, at, comment
        Who said so, when, and what besides; empty, or ``None``, where nobody did.
    found
        Of a person's outline, what a model had found there; ``None`` where it had found nothing.
    is_redrawn
        Whether the outline is another one than the model's.
    counted_as
        Ids of the lesions that count in its place: the outline that a person drew in place of a model's, or a lesion
        that it is a part of.
    is_known
        Whether the corrections could be read: where not, the state is that of a lesion of which nobody spoke.
    """

    state: State = "pending"
    keys: tuple[str, ...] = ()
    is_clear: bool = True
    about: tuple[str, ...] = ()
    reviewer: str = ""
    at: datetime | None = None
    comment: str = ""
    found: Finding | None = None
    is_redrawn: bool = False
    counted_as: tuple[int, ...] = ()
    is_known: bool = True

    @property
    def told(self) -> ReviewState:
        """Return its state as files have it."""
        return self.state if self.is_known else "unknown"

    @property
    def counts(self) -> bool:
        """Return whether the lesion counts in what is said of the slide: not where somebody took it away."""
        return self.state not in ("rejected", "ignored", "normal") and not self.counted_as

    @property
    def text(self) -> str:
        """Return it in a few words: "confirmed, outline redrawn"; empty where there is nothing to say."""
        state = "" if self.state == "pending" else self.state
        told = (state, "outline redrawn" if self.is_redrawn else "", "" if self.is_clear else "look again")
        return ", ".join(filter(None, told))
