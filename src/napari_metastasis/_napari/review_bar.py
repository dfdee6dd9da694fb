"""The buttons, and the line, with which a person goes through the findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_metastasis._napari.parts import SPACING, form_layout
from napari_metastasis._napari.ranking import MARKS, Ranking, counter_text, hidden_text

if TYPE_CHECKING:
    from napari_metastasis.annotations.corrections import Label, State

__all__ = ["DECISIONS", "ReviewBar"]

#: What can be said of a finding: what it then is, what a person calls that, and the key.
DECISIONS: tuple[tuple[Label, State, str, str], ...] = (
    ("tumour", "confirmed", "Confirm", "C"),
    ("normal", "rejected", "Reject", "R"),
    ("ignore", "ignored", "Ignore", "I"),
)
_HINTS = {
    "tumour": "It is tumour, and the next finding is shown",
    "normal": "It is no tumour, and the next finding is shown",
    "ignore": "Neither counts nor is learned from, as a fold or a blur; the next finding is shown",
}


class ReviewBar(QWidget):
    """Says how far a person is with the findings, and takes what is said of them."""

    #: The label of what a person decided; "undecided" where a decision was taken back by its own button.
    decided = Signal(str)
    #: A Ranking.
    ranked = Signal(object)
    #: What was written of the finding.
    commented = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[Label, QPushButton] = {}
        row = QHBoxLayout()
        row.setSpacing(4)
        for label, state, said, key in DECISIONS:
            button = QPushButton(f"{MARKS[state]} {said} ({key})")
            button.setCheckable(True)
            button.setToolTip(f"{_HINTS[label]} ({key}). A second click takes it back; so does Ctrl+Z")
            button.clicked.connect(lambda checked, label=label: self.decided.emit(label if checked else "undecided"))
            self.buttons[label] = button
            row.addWidget(button, 1)
        self.counter, self.hidden, self.said = QLabel(), QLabel(), QLabel()
        for line in (self.counter, self.hidden, self.said):
            line.setWordWrap(True)
            line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.order = QComboBox()
        self.order.setToolTip("In which order findings are shown; those that nobody decided on come first")
        for ranking in Ranking:
            self.order.addItem(ranking.value, ranking)
        self.order.currentIndexChanged.connect(lambda _: self.ranked.emit(self.order.currentData()))
        self.comment = QLineEdit()
        self.comment.setPlaceholderText("Comment on this finding")
        self.comment.setMaxLength(500)
        self.comment.editingFinished.connect(self._on_commented)
        self._comment = ""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING - 2)
        layout.addWidget(self.counter)
        layout.addWidget(self.hidden)
        layout.addLayout(row)
        layout.addWidget(self.said)
        form = form_layout()
        form.addRow("Comment", self.comment)
        form.addRow("Order", self.order)
        layout.addLayout(form)
        self.show_progress(0, 0, hidden=0)
        self.show_said(None, "", "", can_say=False)

    def show_progress(self, decided: int, count: int, *, hidden: int) -> None:
        """Show how many of the findings were decided on, and how many decided ones the threshold hides."""
        for line, text in ((self.counter, counter_text(decided, count)), (self.hidden, hidden_text(hidden))):
            line.setText(text)
            line.setVisible(bool(text))

    def show_said(self, state: State | None, said: str, comment: str, *, can_say: bool) -> None:
        """Show what was said of the finding that is chosen.

        Parameters
        ----------
        state
            What it is now; ``None`` where none is chosen.
        said
            Who said what and when, or that it is not clear; empty where nothing was said.
        comment
            What was written of it.
        can_say
            Whether there is a finding to decide on.
        """
        self.said.setText(said)
        self.said.setVisible(bool(said))
        for label, own, _, _ in DECISIONS:
            self.buttons[label].setEnabled(can_say)
            self.buttons[label].setChecked(own == state or (label == "tumour" and state == "added"))
        self._comment = comment
        if not self.comment.hasFocus() or not state:
            self.comment.setText(comment)
        self.comment.setEnabled(state is not None)

    def _on_commented(self) -> None:
        if self.comment.text() != self._comment:
            self._comment = self.comment.text()
            self.commented.emit(self._comment)
