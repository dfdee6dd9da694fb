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
        self._from = self._to = ((0.0, 0.0), 1.0)
        self._animation = QVariantAnimation(self)
        self._animation.setStartValue(0.0)
        self._animation.setEndValue(1.0)
        self._animation.setDuration(_FLIGHT_MS)
        self._animation.setEasingCurve(QEasingCurve.Type.InOutCubic)
        self._animation.valueChanged.connect(self._step)

    def to(self, place: Point, slide: Slide, *, across_um: float) -> None:
        """Show a level-0 location in the middle of the window, whose shorter side then spans ``across_um``."""
        self._aim(place, slide, across_um)
        self._animation.start()

    def jump(self, place: Point, slide: Slide, *, across_um: float) -> None:
        """Show it at once: where one finding follows another, the way to it only takes time."""
        self._aim(place, slide, across_um)
        self._step(1.0)

    def _aim(self, place: Point, slide: Slide, across_um: float) -> None:
        self.stop()
        side = across_um / float(um_per_unit(self._viewer).max())
        camera = camera_of(self._viewer)
        y, x = camera.center[-2:]
        self._from = (float(y), float(x)), float(camera.zoom)
        self._to = center_on(self._viewer, place, slide), min(canvas_size(self._viewer)) / side

    def stop(self) -> None:
        """Stay where the camera is."""
        self._animation.stop()

    def _step(self, share: float) -> None:
        camera = camera_of(self._viewer)
        ((y0, x0), zoom0), ((y1, x1), zoom1) = self._from, self._to
        camera.zoom = zoom0 * (zoom1 / zoom0) ** share
        camera.center = (y0 + (y1 - y0) * share, x0 + (x1 - x0) * share)
