"""What a person says of the slide that is open: every step of it, and whether it is saved. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from psygnal import Signal

from napari_metastasis.annotations import Correction, Corrections, History

__all__ = ["Saving", "SlideCorrections"]


@dataclass(frozen=True, slots=True)
class Saving:
    """Whether what was said lies on the disk, for a person.

    Attributes
    ----------
    kind
        "none" before anything was said, "saving" for a moment after each change, "saved", or "failed".
    text
        One line; empty where there is nothing to say.
    """

    kind: Literal["none", "saving", "saved", "failed"] = "none"
    text: str = ""


class SlideCorrections:
    """The corrections of one open slide, with their history. Used on the GUI thread only.

    A :class:`~napari_metastasis._napari.corrections_keeper.CorrectionsKeeper` reads and writes their file.

    Attributes
    ----------
    selected
        Key of the one that was chosen, where it stands for no lesion that is shown; empty where none is.
    saving
        Whether they lie on the disk.
    note
        What a person has to know of what another window or program did to them; empty where it did nothing.
    """

    #: What is said is another, or what can be taken back is.
    changed = Signal()
    selected_changed = Signal()
    saving_changed = Signal()
    note_changed = Signal()

    def __init__(self) -> None:
        self._history = History(Corrections())
        self.selected = ""
        self.saving = Saving()
        self.note = ""

    @property
    def present(self) -> Corrections:
        """Return what is said now."""
        return self._history.present

    @property
    def undo_text(self) -> str:
        """Return what :meth:`undo` takes back; empty where there is nothing."""
        return self._history.undo_text

    @property
    def redo_text(self) -> str:
        """Return what :meth:`redo` does again; empty where there is nothing."""
        return self._history.redo_text

    def do(self, what: str, corrections: Corrections) -> None:
        """Say something else, in one step that can be taken back.

        Parameters
        ----------
        what
            What was done, as a person says it: "Confirm finding 3".
        corrections
            All that is said from now on.
        """
        if corrections.by_key == self.present.by_key:
            return
        self._history.do(what, corrections)
        self.changed.emit()

    def undo(self) -> tuple[Correction, ...]:
        """Take the last step back, and return what changed, as it is now, or as it was where it is gone."""
        return self._moved(self._history.undo)

    def redo(self) -> tuple[Correction, ...]:
        """Do a step again that was taken back, and return what changed."""
        return self._moved(self._history.redo)

    def _moved(self, move: Callable[[], bool]) -> tuple[Correction, ...]:
        before = self.present
        if not move():
            return ()
        self.changed.emit()
        return tuple(one or before[key] for key, one in before.changes_to(self.present).items())

    def select(self, key: str) -> None:
        """Choose a correction by its key; an empty one, or one that is not there, for none."""
        key = key if key in self.present else ""
        if key != self.selected:
            self.selected = key
            self.selected_changed.emit()

    def take(self, corrections: Corrections) -> None:
        """Take over what another window or program made of them; the steps of this one can still be taken back."""
        if corrections.by_key != self.present.by_key:
            self._history.rebase(corrections)
            self.changed.emit()

    def begin_with(self, corrections: Corrections) -> None:
        """Show those of another place; no step of before can be taken back."""
        self._history = History(corrections)
        self.changed.emit()

    def say_saving(self, saving: Saving) -> None:
        """Say whether they lie on the disk."""
        if saving != self.saving:
            self.saving = saving
            self.saving_changed.emit()

    def say_note(self, note: str) -> None:
        """Say what a person has to know of what another did to them; an empty one takes the last away."""
        if note != self.note:
            self.note = note
            self.note_changed.emit()
