"""The "Findings" part: what was found, how much of the slide that answers for, and from which probability."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QModelIndex, Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QVBoxLayout

from napari_metastasis._napari.compat import copy_picture
from napari_metastasis._napari.lesion_table import LesionTable
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import ErrorLine, form_layout, probability_slider
from napari_metastasis._napari.slide_state import slide_state
from napari_metastasis._napari.state_line import StateLine
from napari_metastasis._napari.workspace import KEYS
from napari_metastasis.geometry import Point
from napari_metastasis.settings import THRESHOLD, DetectionSettings

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.lesions import LesionRow

__all__ = ["ResultsWidget"]

#: A click shows a lesion on this share of the window, which then spans at least this many µm.
_FILL, _MIN_VIEW_UM = 0.4, 400.0


class ResultsWidget(Part):
    """Lists the findings of the current slide, flies to them, and moves the threshold.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "Findings")
        self._workspace.finding_wanted.connect(self.go_on)
        self._workspace.failed.connect(self.error.show_failure)
        self._workspace.opening_changed.connect(self._on_opening_changed)

    def _build(self, layout: QVBoxLayout) -> None:
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
        layout.addLayout(self._exits())

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

    def _exits(self) -> QHBoxLayout:
        """Return the row of what is done with a result."""
        self.report_button, self.picture_button, self.folder_button = (
            QPushButton(text) for text in ("Report", "Copy picture", "Folder")
        )
        self.report_button.setToolTip("Write a page with the findings, their sizes and pictures, and open it")
        self.picture_button.setToolTip("Copy what the window shows of the slide, to paste it elsewhere")
        self.report_button.clicked.connect(lambda _: self._write_report())
        self.picture_button.clicked.connect(self._copy_picture)
        self.folder_button.clicked.connect(lambda _: self._open_folder())
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in (self.report_button, self.picture_button, self.folder_button):
            row.addWidget(button, 1)
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
        for widget in (self.threshold, self.strength, self.table, self.picture_button):
            widget.setEnabled(session is not None and session.probabilities is not None)
        folder = None if session is None else session.folder
        for button in (self.folder_button, self.report_button):
            button.setEnabled(folder is not None)
        self.folder_button.setToolTip(f"Open the folder with the results: {folder}" if folder else "No result yet")
        told = () if session is None else session.told
        self.told.setText("\n".join(told))
        self.told.setVisible(bool(told))
        lesions = () if found is None else found.rows
        self.table.rows.show(lesions)
        if session is not None:
            self._show_threshold(session.threshold)
        self._show_state()
        self._show_selected()
        if found is None:
            self.score.setText("–")
            self.summary.setText("" if session is None or session.probabilities is None else "Looking for findings…")
            self.summary.setVisible(bool(self.summary.text()))
            return
        from napari_metastasis.lesions import count_text

        self.score.setText("–" if found.slide_score != found.slide_score else f"{found.slide_score:.3f}")
        cut = sum(row.cut_by_edge for row in lesions)
        counted = count_text(row.size_class for row in lesions) or "Nothing at this probability"
        self.summary.setText(f"{counted}; {cut} cut by the scanned area, may be larger" if cut else counted)
        self.summary.setVisible(True)

    # -- going to a finding --------------------------------------------------------------------------------------

    def _show_selected(self, *_: object) -> None:
        """Mark the chosen finding in the table, and say which of how many it is."""
        rows = self.table.rows
        row = -1 if self._session is None else rows.row_of(self._session.selected)
        if row < 0:
            self.table.clearSelection()
        elif row != self.table.currentIndex().row() or not self.table.selectionModel().hasSelection():
            self.table.selectRow(row)
        count = len(rows.lesions)
        place = f"{row + 1} of {count}" if row >= 0 else f"{count} finding{'' if count == 1 else 's'}"
        self.position.setText(place if count else "No findings")
        self.back_button.setEnabled(row > 0)
        self.on_button.setEnabled(row + 1 < count)

    def _on_row(self, index: QModelIndex) -> None:
        self.go_to(self.table.rows.lesions[index.row()])

    def go_on(self, step: int) -> None:
        """Go to the next finding of the table, or to the one before."""
        lesions = self.table.rows.lesions
        row = -1 if self._session is None else self.table.rows.row_of(self._session.selected)
        if 0 <= row + step < len(lesions):
            self.go_to(lesions[row + step])

    def go_to(self, lesion: LesionRow) -> None:
        """Choose a finding, and fly there."""
        if self._session is None:
            return
        self._session.select(lesion.id)
        across = max(lesion.length_mm * 1000 / _FILL, _MIN_VIEW_UM)
        self._workspace.flight.to(Point(lesion.x, lesion.y), self._session.slide, across_um=across)

    def _write_report(self) -> None:
        if self._controller is not None:
            self._controller.results.write_report(_open_report)

    def _copy_picture(self, *_: object) -> None:
        copy_picture(self._viewer)
        show_info("The picture is on the clipboard")

    def _open_folder(self) -> None:
        if self._session is not None and self._session.folder is not None:
            folder = self._session.folder
            if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
                show_info(f"No program here opens folders. The results lie in {folder}")


def _open_report(path: Path) -> None:
    if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path))):
        show_info(f"No program here opens pages. The report lies in {path}")
