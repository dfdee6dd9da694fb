"""Where a window looks: kept for each slide while another one is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_metastasis._napari.compat import camera_of

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["ViewState"]


@dataclass(frozen=True, slots=True)
class ViewState:
    """What a window shows: place, zoom and rotation.

    Attributes
    ----------
    center
        (y, x) of the camera.
    zoom
        Screen pixels per unit.
    order, orientation
        Which axes run down and across, and in which directions: what turning the slide changes.
    """

    center: tuple[float, ...]
    zoom: float
    order: tuple[int, ...]
    orientation: tuple[str, str] | None

    @classmethod
    def of(cls, viewer: Viewer) -> ViewState:
        """Return what a window shows now."""
        camera = camera_of(viewer)
        center, orientation = camera.center, getattr(camera, "orientation2d", None)
        return cls(
            tuple(float(value) for value in center[-2:]), float(camera.zoom), tuple(viewer.dims.order), orientation
        )

    def show(self, viewer: Viewer) -> None:
        """Show it again."""
        camera = camera_of(viewer)
        if len(self.order) == viewer.dims.ndim:
            viewer.dims.order = self.order
        if self.orientation is not None:
            camera.orientation2d = self.orientation
        camera.center, camera.zoom = self.center, self.zoom
