"""The line that says what a result is worth: always in sight, above the findings."""

from __future__ import annotations

from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy

from napari_metastasis._napari.slide_state import SlideState

__all__ = ["StateLine"]

#: Ground and letters, readable in both themes; none where there is nothing to warn of or to rely on.
_COLORS = {"part": ("#ffd75e", "#2b2000"), "whole": ("#cfe8d2", "#10351a")}
_STYLE = "StateLine, StateLine > QLabel {{ background: {}; color: {}; font-weight: bold; border-radius: 4px; }}"


class StateLine(QFrame):
    """Says how far the slide is; where tissue is left, a button goes on with it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.continue_button = QPushButton("Continue")
        self.continue_button.setToolTip("Scan the tissue that is left; what was scanned already is not scanned again")
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 4, 6, 4)
        row.addWidget(self.text, 1)
        row.addWidget(self.continue_button)

    def show_state(self, state: SlideState, *, note: str = "") -> None:
        """Show how far a slide is.

        Parameters
        ----------
        state
            What is said.
        note
            Where the result comes from, such as "Earlier result of 28 Nov"; said before it.
        """
        self.text.setText(f"{note}: {state.long[:1].lower()}{state.long[1:]}" if note else state.long)
        self.setStyleSheet(_STYLE.format(*_COLORS[state.kind]) if state.kind in _COLORS else "")
        self.continue_button.setVisible(state.kind == "part")
