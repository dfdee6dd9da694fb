"""Flies the camera to a place, so that a person sees where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEasingCurve, QObject, QVariantAnimation

from napari_metastasis._napari.compat import camera_of, canvas_size, um_per_unit
from napari_metastasis._napari.regions import center_on
from napari_metastasis.geometry import Point

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.slides import Slide

__all__ = ["Flight"]

_FLIGHT_MS = 350


class Flight(QObject):
    """Moves the camera; a new flight ends the one before.

    Parameters
    ----------
    viewer
        Whose camera.
    parent
        Qt parent.
    """

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._animation: QVariantAnimation | None = None

    def to(self, place: Point, slide: Slide, *, across_um: float) -> None:
        """Show a level-0 location in the middle of the window, whose shorter side then spans ``across_um``."""
        side = across_um / float(um_per_unit(self._viewer).max())
        self._fly(center_on(self._viewer, place, slide), min(canvas_size(self._viewer)) / side)

    def stop(self) -> None:
        """Stay where the camera is."""
        if self._animation is not None:
            self._animation.stop()
            self._animation = None

    def _fly(self, center: tuple[float, float], zoom: float) -> None:
        camera = camera_of(self._viewer)
        y0, x0 = camera.center[-2:]
        y1, x1 = center
        zoom0 = camera.zoom

        def step(t: float) -> None:
            camera.zoom = zoom0 * (zoom / zoom0) ** t
            camera.center = (y0 + (y1 - y0) * t, x0 + (x1 - x0) * t)

        self.stop()
        flight = QVariantAnimation(self)
        flight.setStartValue(0.0)
        flight.setEndValue(1.0)
        flight.setDuration(_FLIGHT_MS)
        flight.setEasingCurve(QEasingCurve.Type.InOutCubic)
        flight.valueChanged.connect(step)
        flight.finished.connect(lambda: step(1.0))
        flight.start()
        self._animation = flight
