"""The "Review" part: the threshold, and the lesions above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QEasingCurve, QModelIndex, Qt, QUrl, QVariantAnimation
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QLabel, QPushButton, QSizePolicy, QVBoxLayout
from superqt import QLabeledDoubleSlider

from napari_metastasis._napari.compat import camera_of, canvas_size, um_per_unit
from napari_metastasis._napari.lesion_table import LesionTable
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import form_layout
from napari_metastasis._napari.regions import center_on
from napari_metastasis._napari.workspace import KEYS
from napari_metastasis.geometry import Point
from napari_metastasis.settings import THRESHOLD, DetectionSettings
from napari_metastasis.tasks import pass_tasks

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.lesions import LesionRow

__all__ = ["ResultsWidget"]

#: A click shows a lesion on this share of the window, which then spans at least this many µm.
_FILL, _MIN_VIEW_UM = 0.4, 400.0
_FLIGHT_MS = 350


def _slider(low: float, high: float, *, step: float) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(low, high)
    slider.setSingleStep(step)
    slider.setDecimals(2)
    return slider


class ResultsWidget(Part):
    """Moves the threshold and lists the lesions of the current slide.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "Review")
        self._flight: QVariantAnimation | None = None

    def _build(self, layout: QVBoxLayout) -> None:
        defaults = DetectionSettings().for_model(THRESHOLD)
        self.threshold = _slider(defaults.floor, 0.99, step=0.01)
        self.threshold.setValue(defaults.threshold)
        self.threshold.setToolTip(
            f"Probability from which tissue counts as tumour ({KEYS['lower']} and {KEYS['raise']});\n"
            f"heatmap, points, labels and table follow; {KEYS['overlay']} hides what lies over the tissue"
        )
        self.threshold.valueChanged.connect(self._on_slider)
        #: By the name of the map whose share each of them is.
        self.shares: dict[str, QLabeledDoubleSlider] = {}
        for task in pass_tasks():
            share = self.shares[task.writes] = _slider(0.0, 1.0, step=0.05)
            share.setToolTip(
                f"Share of the {task.writes} map in points, labels and table; the rest is read from the maps before.\n"
                "Grey where the slide has no such map of probabilities"
            )
            share.valueChanged.connect(partial(self._on_share, task.writes))
        self.score, self.summary, self.told = QLabel(), QLabel(), QLabel()
        for label in (self.summary, self.told):
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.score.setToolTip("Highest tumour probability anywhere on what was scanned")
        form = form_layout()
        form.addRow("Threshold", self.threshold)
        for name, share in self.shares.items():
            form.addRow(f"{name.capitalize()} share", share)
        form.addRow("Slide score", self.score)
        form.addRow("Found", self.summary)
        layout.addLayout(form)
        layout.addWidget(self.told)
        self.table = LesionTable()
        self.table.clicked.connect(self._on_row)
        layout.addWidget(self.table, 1)
        self.folder_button = QPushButton("Open result folder")
        self.folder_button.clicked.connect(self._open_folder)
        layout.addWidget(self.folder_button)

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        return (
            (session.found_changed, self._show_found),
            (session.maps_replaced, self._show_found),
            (session.threshold_changed, self._show_threshold),
            (session.maps_replaced, self._show_shares),
            (session.share_changed, self._show_shares),
        )

    def _show_current(self) -> None:
        self._show_shares()
        self._show_found()

    def _on_slider(self, value: float) -> None:
        if self._session is not None:
            self._session.set_threshold(round(value, 2))

    def _on_share(self, name: str, value: float) -> None:
        if self._session is not None:
            self._session.set_share(name, round(value, 2))

    def _show_shares(self, *_: object) -> None:
        session = self._session
        for name, share in self.shares.items():
            shown = None if session is None else session.maps.get(name)
            share.setEnabled(shown is not None and shown.kind.is_probability)
            share.blockSignals(True)
            share.setValue(1.0 if session is None else session.share_of(name))
            share.blockSignals(False)

    def _show_threshold(self, threshold: float) -> None:
        self.threshold.blockSignals(True)
        if self._session is not None:
            self.threshold.setMinimum(self._session.floor)
        self.threshold.setValue(threshold)
        self.threshold.blockSignals(False)

    def _show_found(self) -> None:
        session = self._session
        found = None if session is None else session.found
        for widget in (self.threshold, self.table):
            widget.setEnabled(session is not None and session.probabilities is not None)
        folder = None if session is None else session.folder
        self.folder_button.setEnabled(folder is not None)
        self.folder_button.setToolTip(str(folder or "There is no result yet"))
        told = () if session is None else session.told
        self.told.setText("\n".join(told))
        self.told.setVisible(bool(told))
        lesions = () if found is None else found.rows
        self.table.rows.show(lesions)
        if session is not None:
            self._show_threshold(session.threshold)
        if found is None:
            self.score.setText("–")
            self.summary.setText("Nothing scanned yet" if session is None or session.probabilities is None else "…")
            return
        from napari_metastasis.lesions import count_text

        self.score.setText("–" if found.slide_score != found.slide_score else f"{found.slide_score:.3f}")
        self.summary.setText(count_text(row.size_class for row in lesions) or "No lesion above the threshold")

    # -- going to a lesion ---------------------------------------------------------------------------------------

    def _on_row(self, index: QModelIndex) -> None:
        self.go_to(self.table.rows.lesions[index.row()])

    def go_to(self, lesion: LesionRow) -> None:
        """Fly the camera to a lesion."""
        if self._session is None:
            return
        center = center_on(self._viewer, Point(lesion.x, lesion.y), self._session.slide)
        side = max(lesion.length_mm * 1000 / _FILL, _MIN_VIEW_UM) / float(um_per_unit(self._viewer).max())
        self._fly(center, min(canvas_size(self._viewer)) / side)

    def _fly(self, center: tuple[float, float], zoom: float) -> None:
        camera = camera_of(self._viewer)
        y0, x0 = camera.center[-2:]
        y1, x1 = center
        zoom0 = camera.zoom

        def step(t: float) -> None:
            camera.zoom = zoom0 * (zoom / zoom0) ** t
            camera.center = (y0 + (y1 - y0) * t, x0 + (x1 - x0) * t)

        if self._flight is not None:
            self._flight.stop()
        flight = QVariantAnimation(self)
        flight.setStartValue(0.0)
        flight.setEndValue(1.0)
        flight.setDuration(_FLIGHT_MS)
        flight.setEasingCurve(QEasingCurve.Type.InOutCubic)
        flight.valueChanged.connect(step)
        flight.finished.connect(lambda: step(1.0))
        flight.start()
        self._flight = flight

    def _open_folder(self) -> None:
        if self._session is not None and self._session.folder is not None:
            folder = self._session.folder
            if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
                show_info(f"No program here opens folders. The results lie in {folder}")
