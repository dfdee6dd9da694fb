"""Where a window looks: kept for each slide while another one is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.rotation import Orientation, orientation_of, set_orientation

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["ViewState"]


@dataclass(frozen=True, slots=True)
class ViewState:
    """What a window shows: place, zoom and rotation.

    Attributes
    ----------
    center
        Of the camera: down and across the window.
    zoom
        Screen pixels per unit.
    orientation
        How the slide is turned.
    """

    center: tuple[float, float]
    zoom: float
    orientation: Orientation

    @classmethod
    def of(cls, viewer: Viewer) -> ViewState:
        """Return what a window shows now."""
        camera = camera_of(viewer)
        y, x = camera.center[-2:]
        return cls((float(y), float(x)), float(camera.zoom), orientation_of(viewer))

    def show(self, viewer: Viewer) -> None:
        """Show it again."""
        set_orientation(viewer, self.orientation)
        camera = camera_of(viewer)
        camera.center, camera.zoom = self.center, self.zoom
