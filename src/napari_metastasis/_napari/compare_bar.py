"""The switch between two models on the same tissue, and what changed between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_metastasis._napari.workspace import KEYS

if TYPE_CHECKING:
    from napari_metastasis._napari.comparison import Comparison

__all__ = ["CompareBar"]

_SIDES = (("old", "Before"), ("new", "Now"), ("change", "What changed"))
_HINTS = {
    "old": f"What the old model finds here; {KEYS['flip']} shows the one and the other",
    "new": f"What the new model finds here; {KEYS['flip']} shows the one and the other",
    "change": "Blue: less tumour than before. Orange: more",
}


class CompareBar(QWidget):
    """Offers to compare two models on the view, and switches between them once they are compared."""

    #: Two models are to be compared: names or paths of the old and the new one.
    wanted = Signal(str, str)
    #: A side of the comparison is to be shown: "old", "new" or "change".
    side_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._models = ("", "")
        self._called = ""
        self.button = QPushButton("Compare old and new on this view")
        self.button.clicked.connect(lambda _: self.wanted.emit(*self._models))
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        #: By what they show.
        self.sides: dict[str, QPushButton] = {}
        self._row = QWidget()
        row = QHBoxLayout(self._row)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self._group = QButtonGroup(self)
        for side, text in _SIDES:
            button = QPushButton(text)
            button.setCheckable(True)
            button.setToolTip(_HINTS[side])
            button.clicked.connect(lambda _=False, side=side: self.side_wanted.emit(side))
            self._group.addButton(button)
            self.sides[side] = button
            row.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self._row, self.note):
            layout.addWidget(widget)
        self.offer("", "", "")

    def offer(self, old: str, new: str, called: str) -> None:
        """Offer to compare two models; empty names for none.

        Parameters
        ----------
        old, new
            Names or paths.
        called
            What the new one is called.
        """
        self._models, self._called = (old, new), called
        self.button.setToolTip(f"Scan what the window shows with {old} and with {called}, and switch between them")

    def follow(self, comparison: Comparison | None, is_free: bool) -> None:
        """Show how far the comparison on the current slide is.

        Parameters
        ----------
        comparison
            Of the current slide; ``None`` where there is none.
        is_free
            Whether a scan can be begun.
        """
        ready = comparison is not None and comparison.kind == "ready"
        self.button.setVisible(bool(self._models[0]) and comparison is not None)
        self.button.setEnabled(is_free and comparison is not None and comparison.kind != "scanning")
        self._row.setVisible(ready)
        self._row.setEnabled(is_free)
        note = "" if comparison is None else comparison.note
        if comparison is not None and ready:
            self.sides[comparison.side].setChecked(True)
            names = f"{comparison.names[0]} before, {comparison.names[1]} now ({KEYS['flip']} switches)."
            note = f"{names} {note}".strip()
        self.note.setText(note)
        self.note.setVisible(bool(note))
