"""The "Correct" part: tools to draw what was missed and to mend outlines, and what becomes of what was drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_metastasis._napari.correcting import DRAWN_LABELS, TOOL_KEYS
from napari_metastasis._napari.correction_exchange import CorrectionExchange
from napari_metastasis._napari.draw_tool import Tool
from napari_metastasis._napari.drawn_looks import DRAWN
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import ErrorLine, Folded, form_layout

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations.corrections import Label, State

__all__ = ["CorrectWidget"]

_TOOLS = (
    (Tool.BRUSH, "Brush", "Paint with a round tip; what is touched and called the same grows by it"),
    (Tool.ERASER, "Eraser", "Rub out what was drawn, or a part of what the model found"),
    (Tool.LASSO, "Lasso", "Drag around it"),
    (Tool.POLYGON, "Polygon", "Click its corners; a click on the first one, a double-click or Enter closes it"),
    (Tool.SPLIT, "Split", "Drag a line across an area: it becomes two"),
    (Tool.JOIN, "Join", "Drag a line from one area to another: they become one"),
    (Tool.POINT, "Point", "Click: a point, of what is chosen above"),
    (
        Tool.CORNERS,
        "Adjust",
        "Drag the corners of an outline that was clicked; a click on its line adds one, a right click or Delete takes "
        "one away",
    ),
)
_HINT = "Hold Space to move the slide; Escape puts the tool away."
_HINT_BESIDE = "Beside it, the mouse moves the slide; Escape puts the tool away."
#: Radii of the round tip in screen pixels.
_RADII = (3, 80)


class CorrectWidget(Part):
    """Draws on the current slide, takes steps back, and says whether all is saved.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "")
        correcting = self._workspace.correcting
        correcting.tool.changed.connect(self._show_tool)
        correcting.label_changed.connect(self._show_label)
        correcting.corners.said.connect(lambda _: self._show_hint())
        self._workspace.reviewer.changed.connect(self._show_reviewer)
        self._show_reviewer(self._workspace.reviewer.name)
        self._show_tool(None)

    def _build(self, layout: QVBoxLayout) -> None:
        self.error = ErrorLine()
        layout.addWidget(self.error)
        inside = QWidget()
        rows = QVBoxLayout(inside)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(6)
        rows.addLayout(self._labels())
        rows.addLayout(self._tools())
        self.size = QSlider(Qt.Orientation.Horizontal)
        self.size.setRange(*_RADII)
        self.size.setToolTip("How wide the brush and the eraser are on the screen, at every magnification")
        self.size.valueChanged.connect(self._on_size)
        self.size_row = QWidget()
        size = form_layout()
        size.addRow("Brush size", self.size)
        self.size_row.setLayout(size)
        rows.addWidget(self.size_row)
        self.hint = self._line()
        rows.addWidget(self.hint)
        rows.addLayout(self._steps())
        self.counts = self._line()
        rows.addWidget(self.counts)
        self.reviewer = QLineEdit()
        self.reviewer.setToolTip("Your name: it is kept with all that you say of slides")
        self.reviewer.setMaxLength(100)
        self.reviewer.editingFinished.connect(self._on_reviewer)
        form = form_layout()
        form.addRow("Reviewer", self.reviewer)
        rows.addLayout(form)
        self.exchange = CorrectionExchange(self._workspace)
        self.exchange.failed.connect(self.error.show_failure)
        rows.addWidget(self.exchange)
        self.fold = Folded("Correct: draw, erase, mark", inside)
        self.fold.toggled.connect(self._on_unfolded)
        layout.addWidget(self.fold)
        self.saving, self.note = self._line(), self._line()
        layout.addWidget(self.saving)
        layout.addWidget(self.note)

    @staticmethod
    def _line() -> QLabel:
        line = QLabel()
        line.setWordWrap(True)
        line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        line.hide()
        return line

    def _labels(self) -> QHBoxLayout:
        """Return the row that says what is drawn."""
        self.labels: dict[Label, QPushButton] = {}
        row, group = QHBoxLayout(), QButtonGroup(self)
        row.setSpacing(4)
        for label, said in DRAWN_LABELS:
            button = QPushButton(said)
            button.setCheckable(True)
            button.setStyleSheet(f"QPushButton:checked {{ background: rgb{DRAWN[label].rgb}; color: white; }}")
            button.clicked.connect(lambda _=False, label=label: self._workspace.correcting.choose(label))
            group.addButton(button)
            self.labels[label] = button
            row.addWidget(button, 1)
        self.labels["tumour"].setChecked(True)
        self.labels["tumour"].setToolTip("Draw tumour: a lesion that was missed, or more of one")
        self.labels["normal"].setToolTip("Mark tissue without tumour: models learn that from it")
        self.labels["ignore"].setToolTip("Mark what no model is to learn from, as a fold or a blur")
        return row

    def _tools(self) -> QGridLayout:
        """Return the tools."""
        self.tools: dict[Tool, QPushButton] = {}
        grid = QGridLayout()
        grid.setSpacing(4)
        for number, (tool, said, hint) in enumerate(_TOOLS):
            button = QPushButton(f"{said} ({TOOL_KEYS[tool]})")
            button.setCheckable(True)
            button.setToolTip(f"{hint} ({TOOL_KEYS[tool]})")
            button.clicked.connect(lambda _=False, tool=tool: self._workspace.correcting.toggle(tool))
            self.tools[tool] = button
            grid.addWidget(button, number // 2, number % 2)
        return grid

    def _steps(self) -> QGridLayout:
        """Return what is done to what is chosen, and steps back and again."""
        self.undo_button, self.redo_button = QPushButton("Undo"), QPushButton("Redo")
        self.fill_button, self.remove_button = QPushButton("Fill holes"), QPushButton("Remove")
        self.fill_button.setToolTip("Fill the holes of what is chosen")
        self.remove_button.setToolTip("Take away what is chosen (Delete)")
        self.undo_button.clicked.connect(lambda _: self._workspace.move_in_history(-1))
        self.redo_button.clicked.connect(lambda _: self._workspace.move_in_history(1))
        self.fill_button.clicked.connect(lambda _: self._workspace.correcting.fill())
        self.remove_button.clicked.connect(lambda _: self._workspace.correcting.remove())
        grid = QGridLayout()
        grid.setSpacing(4)
        for number, button in enumerate((self.fill_button, self.remove_button, self.undo_button, self.redo_button)):
            grid.addWidget(button, number // 2, number % 2)
        return grid

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        return (
            (session.corrections.changed, self._show_corrections),
            (session.corrections.selected_changed, self._show_corrections),
            (session.selected_changed, self._show_corrections),
            (session.corrections.saving_changed, self._show_saving),
            (session.corrections.note_changed, self._show_saving),
        )

    def _show_current(self) -> None:
        self.setEnabled(self._session is not None)
        self._show_corrections()
        self._show_saving()

    # -- what is shown -------------------------------------------------------------------------------------------

    def _show_tool(self, tool: Tool | None) -> None:
        for own, button in self.tools.items():
            button.setChecked(own is tool)
        self.size_row.setVisible(tool is not None and tool.is_round)
        self.size.setValue(round(self._workspace.correcting.tool.radius_px))
        self._show_hint()
        if tool is not None and not self.fold.isExpanded():
            # Taken up by its key.
            self.fold.expand()

    def _show_hint(self) -> None:
        """Say what the tool does, or what has to be known of what was done with it."""
        tool, line = self._workspace.correcting.tool.tool, self._workspace.correcting.corners.line
        hint = next((f"{hint}. {_HINT if own.draws else _HINT_BESIDE}" for own, _, hint in _TOOLS if own is tool), "")
        self.hint.setText(f"{line}\n{hint}" if line and hint else hint)
        self.hint.setVisible(tool is not None)

    def _on_unfolded(self, unfolded: bool) -> None:
        if unfolded:
            # Once it has its height.
            QTimer.singleShot(0, self._come_into_sight)

    def _come_into_sight(self) -> None:
        """Scroll the panel to what was unfolded: on a small screen it lies below what is seen."""
        above = self.parentWidget()
        while above is not None and not isinstance(above, QScrollArea):
            above = above.parentWidget()
        if above is not None and self.isVisible():
            above.ensureWidgetVisible(self.remove_button)
            above.ensureWidgetVisible(self.labels["tumour"])

    def _show_label(self, label: Label) -> None:
        self.labels[label].setChecked(True)

    def _show_reviewer(self, name: str) -> None:
        self.reviewer.setText(name)

    def _show_corrections(self) -> None:
        said = None if self._session is None else self._session.corrections
        for button, verb, text, key in (
            (self.undo_button, "Undo", "" if said is None else said.undo_text, "Ctrl+Z"),
            (self.redo_button, "Redo", "" if said is None else said.redo_text, "Ctrl+Shift+Z"),
        ):
            button.setEnabled(bool(text))
            button.setToolTip(f"{verb}: {text} ({key})" if text else f"Nothing to {verb.lower()} ({key})")
        chosen = bool(self._workspace.correcting.chosen) if said is not None else False
        for button in (self.fill_button, self.remove_button):
            button.setEnabled(chosen)
        count = 0 if said is None else len(said.present)
        self.exchange.export_button.setEnabled(count > 0)
        self.counts.setText("" if said is None else _counted(said.present.states))
        self.counts.setVisible(bool(self.counts.text()))

    def _show_saving(self) -> None:
        said = None if self._session is None else self._session.corrections
        failed = said is not None and said.saving.kind == "failed"
        self.error.show_error(said.saving.text if said is not None and failed else "")
        for line, text in (
            (self.saving, "" if said is None or failed else said.saving.text),
            (self.note, "" if said is None else said.note),
        ):
            line.setText(text)
            line.setVisible(bool(text))
        path = None if self._controller is None else self._controller.corrections.path
        self.saving.setToolTip("" if path is None else f"Corrections are kept in {path}")

    # -- what is done --------------------------------------------------------------------------------------------

    def _on_size(self, radius: int) -> None:
        self._workspace.correcting.tool.radius_px = float(radius)
        self._workspace.correcting.tool.follow()

    def _on_reviewer(self) -> None:
        if self.reviewer.text() != self._workspace.reviewer.name:
            self._workspace.reviewer.enter(self.reviewer.text())


def _counted(states: Mapping[State, int]) -> str:
    """Return what was drawn beside what was said of findings: "2 lesions drawn, 3 places normal, 1 ignored"."""
    parts = []
    if count := states.get("added", 0):
        parts.append(f"{count} lesion{'' if count == 1 else 's'} drawn")
    if count := states.get("normal", 0):
        parts.append(f"{count} place{'' if count == 1 else 's'} marked normal")
    if count := states.get("ignored", 0):
        parts.append(f"{count} to ignore")
    return ", ".join(parts)
