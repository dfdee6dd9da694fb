"""What came out of a retraining: a sentence, and the figures of the old and the new model beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_metastasis.workflows.retrain import Run

__all__ = ["VerdictView", "figure_text", "question"]

#: Figures, by their name in ``verdict.json``: what a person calls them, and what they mean.
_FIGURES = {
    "accuracy": ("Right answers", "Share of the tissue at the places held out that is on the right side"),
    "auc": ("Told apart, AUC", "How well tumour is ranked over normal tissue at the places held out; 0.5 is chance"),
    "froc": (
        "Lesions found, FROC",
        "Share of the lesions held out found, averaged over false alarms a slide",
    ),
    "replayed_auc": ("Earlier patches, AUC", "On patches that it was trained with before: this should hardly fall"),
}


def question(verdict: Mapping[str, Any]) -> str:
    """Return what a person is asked: "Better on 12 of 14 places that it did not see, worse on 1. Keep it?"."""
    said = str(verdict.get("sentence") or "Nothing is known of how good it is")
    return f"{said.rstrip('.')}. Keep it?"


def figure_text(verdict: Mapping[str, Any], name: str) -> str:
    """Return a figure, and below it its interval; a dash where it is not known."""
    value, interval = verdict.get(name), verdict.get(f"{name}_ci95")
    if not isinstance(value, int | float):
        return "–"
    try:
        low, high = map(float, interval or ())
    except (TypeError, ValueError):
        return f"{value:.2f}"
    return f"{value:.2f}\n{low:.2f}–{high:.2f}"


class VerdictView(QWidget):
    """Shows what came out of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        font = self.sentence.font()
        font.setBold(True)
        self.sentence.setFont(font)
        self._table = QWidget()
        grid = QGridLayout(self._table)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(2)
        for column, text in enumerate(("", "before", "now")):
            grid.addWidget(QLabel(text), 0, column)
        #: By figure: of the old and the new model.
        self.cells: dict[str, tuple[QLabel, QLabel]] = {}
        self._names: dict[str, QLabel] = {}
        for row, (name, (called, meaning)) in enumerate(_FIGURES.items(), start=1):
            label, old, new = QLabel(called), QLabel(), QLabel()
            for column, widget in enumerate((label, old, new)):
                widget.setToolTip(meaning)
                widget.setTextFormat(Qt.TextFormat.PlainText)
                grid.addWidget(widget, row, column)
            # The panel may be narrow: figures are read whole, and their names broken into lines.
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            self.cells[name], self._names[name] = (old, new), label
        grid.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.sentence)
        layout.addWidget(self._table)

    def show_run(self, run: Run) -> None:
        """Show what came out of a run."""
        verdict = run.verdict
        self.sentence.setText(question(verdict))
        known = False
        for name, (old, new) in self.cells.items():
            texts = figure_text(verdict, f"old_{name}"), figure_text(verdict, f"new_{name}")
            is_known = texts != ("–", "–")
            known |= is_known
            for widget, text in ((old, texts[0]), (new, texts[1])):
                widget.setText(text)
            for widget in (self._names[name], old, new):
                widget.setVisible(is_known)
        self._table.setVisible(known)
