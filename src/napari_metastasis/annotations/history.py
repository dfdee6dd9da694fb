"""The steps that led to the corrections of a slide, to be taken back and done again."""

from __future__ import annotations

from dataclasses import dataclass

import shapely

from napari_metastasis.annotations.corrections import Corrections

__all__ = ["History"]

#: Corrections, and corners of those that a step changed, that all steps may hold together: about 100 MB.
_MOST = 2_000_000


@dataclass(frozen=True, slots=True)
class _Step:
    """What was done, the corrections on its other side, and what it costs to keep them."""

    what: str
    corrections: Corrections
    cost: int


class History:
    """Corrections as they are, and the steps that led to them; the earliest are forgotten where they are too many.

    Parameters
    ----------
    corrections
        To begin with.
    most
        What the steps may hold together: corrections, and corners of those that they changed.
    """

    def __init__(self, corrections: Corrections, *, most: int = _MOST) -> None:
        self.present = corrections
        self._most = most
        self._done: list[_Step] = []
        self._undone: list[_Step] = []

    @property
    def undo_text(self) -> str:
        """Return what :meth:`undo` takes back; empty where there is nothing."""
        return self._done[-1].what if self._done else ""

    @property
    def redo_text(self) -> str:
        """Return what :meth:`redo` does again; empty where there is nothing."""
        return self._undone[-1].what if self._undone else ""

    def do(self, what: str, corrections: Corrections) -> None:
        """Take a step; what was undone cannot be done again after it."""
        self._done.append(_Step(what, self.present, _cost(self.present, corrections)))
        self._undone.clear()
        self.present = corrections
        kept = self._most
        for number, step in enumerate(reversed(self._done)):
            kept -= step.cost
            # The last step can always be taken back.
            if kept < 0 and number:
                del self._done[: len(self._done) - number]
                break

    def undo(self) -> bool:
        """Take the last step back, and return whether there was one."""
        return self._move(self._done, self._undone)

    def redo(self) -> bool:
        """Do a step again that was taken back, and return whether there was one."""
        return self._move(self._undone, self._done)

    def rebase(self, corrections: Corrections) -> None:
        """Take over what others made of the corrections; steps can still be taken back, and leave that as it is."""
        if not self._done and not self._undone:
            self.present = corrections
            return
        changes = self.present.changes_to(corrections)
        before, self.present = self.present, corrections
        for steps in (self._done, self._undone):
            steps[:] = [_Step(one.what, one.corrections.rebased(before, changes), one.cost) for one in steps]

    def _move(self, source: list[_Step], target: list[_Step]) -> bool:
        if not source:
            return False
        step = source.pop()
        target.append(_Step(step.what, self.present, step.cost))
        self.present = step.corrections
        return True


def _cost(before: Corrections, after: Corrections) -> int:
    """Return what it costs to keep both sides of a step: names of all, and the corners of what is another."""
    changed = before.changes_to(after)
    shapes = [side.by_key[key].shape_px for key in changed for side in (before, after) if key in side]
    return len(before) + int(shapely.get_num_coordinates(shapes).sum())
