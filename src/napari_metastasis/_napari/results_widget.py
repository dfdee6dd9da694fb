"""The "Findings" part: what was found, how much of the slide that answers for, and from which probability."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout

from napari_metastasis._napari.finding_review import FindingReview
from napari_metastasis._napari.lesion_table import LesionTable
from napari_metastasis._napari.parts import ErrorLine, form_layout, probability_slider
from napari_metastasis._napari.result_exits import ResultExits
from napari_metastasis._napari.review_bar import ReviewBar
from napari_metastasis._napari.slide_state import slide_state
from napari_metastasis._napari.state_line import StateLine
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.workspace import KEYS
from napari_metastasis.settings import THRESHOLD, DetectionSettings

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession

__all__ = ["ResultsWidget"]

#: What comes next is read once a finding is seen.
_AHEAD_MS = 50


class ResultsWidget(FindingReview):
    """Lists the findings of the current slide, flies to them, and moves the threshold.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "Findings")
        self._workspace.finding_wanted.connect(self.go_on)
        self._workspace.decided.connect(self.decide)
        self._workspace.moved_in_history.connect(self.go_to_said)
        self._workspace.failed.connect(self.error.show_failure)
        self._workspace.opening_changed.connect(self._on_opening_changed)

    def _build(self, layout: QVBoxLayout) -> None:
        self._ahead_soon = single_shot(self, _AHEAD_MS, self._read_ahead)
        self.error = ErrorLine()
        layout.addWidget(self.error)
        self.state = StateLine()
        self.state.continue_button.clicked.connect(lambda _: self._workspace.scan_wanted.emit())
        layout.addWidget(self.state)
        self.summary, self.score, self.told = QLabel(), QLabel(), QLabel()
        for label in (self.summary, self.told):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        layout.addWidget(self.summary)
        self.table = LesionTable()
        self.table.clicked.connect(self._on_row)
        self.table.rows.modelReset.connect(self._show_selected)
        layout.addWidget(self.table, 1)
        layout.addLayout(self._steps())
        self.review = ReviewBar()
        self.review.decided.connect(self.decide)
        self.review.commented.connect(self._on_commented)
        self.review.ranked.connect(self._on_ranked)
        layout.addWidget(self.review)
        defaults = DetectionSettings().for_model(THRESHOLD)
        self.threshold = probability_slider(defaults.floor, 1.0, step=0.01)
        self.threshold.setValue(defaults.threshold)
        self.threshold.setToolTip(
            f"Probability from which tissue counts as tumour ({KEYS['lower']} and {KEYS['raise']}): outlines, colours, "
            "points, table\nand files follow"
        )
        self.threshold.valueChanged.connect(self._on_slider)
        self.strength = probability_slider(0.0, 1.0, step=0.05)
        self.strength.setToolTip(
            f"How strongly the colours of the probability cover the tissue; {KEYS['overlay']} hides all that lies over "
            "it, and shows it again"
        )
        self.strength.valueChanged.connect(self._on_strength)
        form = form_layout()
        form.addRow(QLabel("Show findings from probability"))
        form.addRow(self.threshold)
        form.addRow("Colours", self.strength)
        self.score.setToolTip("Highest tumour probability anywhere on what was scanned")
        form.addRow("Highest", self.score)
        layout.addLayout(form)
        layout.addWidget(self.told)
        self.exits = ResultExits(self._viewer)
        layout.addWidget(self.exits)

    def _steps(self) -> QHBoxLayout:
        """Return the row that goes from one finding to the next."""
        self.back_button, self.on_button = QToolButton(), QToolButton()
        self.position = QLabel()
        self.position.setAlignment(Qt.AlignmentFlag.AlignCenter)
        row = QHBoxLayout()
        for button, text, step, key in (
            (self.back_button, "◀", -1, KEYS["previous"]),
            (self.on_button, "▶", 1, KEYS["next"]),
        ):
            button.setText(text)
            button.setToolTip(f"{'Next' if step > 0 else 'Previous'} finding ({key})")
            button.clicked.connect(lambda _=False, step=step: self.go_on(step))
        self.reviewed = QCheckBox("Reviewed")
        self.reviewed.setToolTip(
            "You have looked through what is shown. Where the probability moves, or more tissue is scanned,\n"
            "the slide is to be looked through again"
        )
        self.reviewed.clicked.connect(self._on_reviewed)
        row.addWidget(self.back_button)
        row.addWidget(self.position, 1)
        row.addWidget(self.on_button)
        row.addWidget(self.reviewed)
        return row

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        return (
            (session.found_changed, self._show_found),
            (session.maps_replaced, self._show_found),
            (session.threshold_changed, self._show_threshold),
            (session.threshold_changed, self._show_state),
            (session.activity_changed, self._show_state),
            (session.coverage_changed, self._show_state),
            (session.looking_changed, self._show_state),
            (session.review_changed, self._show_state),
            (session.selected_changed, self._show_selected),
            (session.corrections.selected_changed, self._show_selected),
            (session.reviewed_changed, self._show_reviewed),
            (session.counted_changed, self._show_counted),
            (session.corrections.changed, self._on_corrections_changed),
        )

    def _show_current(self) -> None:
        if self._controller is not None:
            self.strength.blockSignals(True)
            self.strength.setValue(self._controller.layers.strength)
            self.strength.blockSignals(False)
        self._show_found()

    def _on_opening_changed(self, count: int) -> None:
        if count:
            self.error.show_error("")

    # -- threshold and colours -----------------------------------------------------------------------------------

    def _on_slider(self, value: float) -> None:
        if self._session is not None:
            self._session.set_threshold(round(value, 2))

    def _on_reviewed(self, reviewed: bool) -> None:
        if self._controller is not None:
            self._controller.results.mark_reviewed(reviewed)

    def _on_strength(self, value: float) -> None:
        for controller in self._workspace.controllers:
            controller.layers.strength = value

    def _show_threshold(self, threshold: float) -> None:
        self.threshold.blockSignals(True)
        if self._session is not None:
            self.threshold.setMinimum(self._session.floor)
        self.threshold.setValue(threshold)
        self.threshold.blockSignals(False)

    # -- what was found ------------------------------------------------------------------------------------------

    def _show_state(self, *_: object) -> None:
        session = self._session
        self.state.setVisible(session is not None)
        if session is not None:
            self.state.show_state(slide_state(session), note=session.origin)
        self.reviewed.setEnabled(session is not None and session.found is not None and session.coverage is not None)
        self.reviewed.setChecked(session is not None and session.is_reviewed)

    def _show_found(self) -> None:
        session = self._session
        found = None if session is None else session.found
        for widget in (self.threshold, self.strength):
            widget.setEnabled(session is not None and session.probabilities is not None)
        self.table.setEnabled(session is not None)
        self.exits.show_result(self._controller)
        told = () if session is None else session.told
        self.told.setText("\n".join(told))
        self.told.setVisible(bool(told))
        self._list_findings()
        if session is not None:
            self._show_threshold(session.threshold)
        self._show_state()
        self._show_selected()
        score = float("nan") if found is None else found.slide_score
        self.score.setText("–" if score != score else f"{score:.3f}")
        if found is None:
            self.summary.setText("" if session is None or session.probabilities is None else "Looking for findings…")
            self.summary.setVisible(bool(self.summary.text()))
        self._show_counted()

    def _show_counted(self) -> None:
        """Say what counts."""
        session = self._session
        if session is not None and (session.found is not None or session.probabilities is None):
            self.summary.setText(session.counted)
            self.summary.setVisible(bool(session.counted))
