"""The panel "Metastasis": findings and their review, the scan, mitoses, corrections, the slide, and retraining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QApplication, QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from napari_metastasis._napari.correct_widget import CorrectWidget
from napari_metastasis._napari.mitosis_widget import MitosisWidget
from napari_metastasis._napari.parts import MARGIN, Folded
from napari_metastasis._napari.results_widget import ResultsWidget
from napari_metastasis._napari.retrain_widget import RetrainWidget
from napari_metastasis._napari.scan_widget import ScanWidget
from napari_metastasis._napari.slide_widget import SlideWidget

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["MetastasisPanel"]

#: Wide enough for the longest choice of the forms, narrow enough to leave the slide the window.
_WIDTH = 340


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setStyleSheet("color: rgba(128, 128, 128, 90);")
    return line


class MetastasisPanel(QScrollArea):
    """All parts of the plugin, one below the other.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.slide_part = SlideWidget(napari_viewer)
        self.scan_part = ScanWidget(napari_viewer)
        self.results_part = ResultsWidget(napari_viewer)
        self.correct_part = CorrectWidget(napari_viewer)
        self.mitosis_part = MitosisWidget(napari_viewer)
        self.retrain_part = RetrainWidget(napari_viewer)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.results_part, 1)
        for part in (self.scan_part, self.mitosis_part, self.correct_part, self.slide_part, self.retrain_part):
            layout.addWidget(_line())
            layout.addWidget(part)
        notice = QLabel("For research only: not a medical device.")
        notice.setAlignment(Qt.AlignmentFlag.AlignCenter)
        notice.setContentsMargins(MARGIN, 0, MARGIN, MARGIN)
        notice.setEnabled(False)
        layout.addWidget(notice)
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(300)
        for folded in self.findChildren(Folded):
            folded.toggled.connect(self._on_folded)

    def _on_folded(self) -> None:
        """Give the parts their height once the section has its own: Qt does not always ask for it from so deep down."""
        QTimer.singleShot(0, self._settle)

    def _settle(self) -> None:
        content = self.widget()
        if content is not None and content.layout() is not None:
            content.layout().activate()
            QApplication.postEvent(content, QEvent(QEvent.Type.LayoutRequest))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the width that the dock takes at first."""
        return QSize(_WIDTH, 800)
