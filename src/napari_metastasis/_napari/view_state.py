"""Where a window looks: kept for each slide while another one is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_metastasis._napari.compat import camera_of, canvas_size, um_per_unit
from napari_metastasis._napari.regions import center_on, view_axes
from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.slides import Slide

__all__ = ["ViewState", "fit_slide"]

#: A slide that is fitted leaves this share of the window to glass around it.
_AROUND = 0.04


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


def fit_slide(viewer: Viewer, slide: Slide) -> None:
    """Show a slide as a whole, as far as it holds an image, in the middle of the window; it stays turned as it is."""
    whole = Region.of(slide.size) if slide.bounds is None else slide.bounds
    camera = camera_of(viewer)
    camera.center = center_on(viewer, whole.center, slide)
    sides = (whole.height, whole.width)
    down, across = view_axes(viewer) or (0, 1)
    width, height = canvas_size(viewer)
    unit = float(um_per_unit(viewer).max())
    um = (max(sides[across], 1) * slide.mpp / unit, max(sides[down], 1) * slide.mpp / unit)
    camera.zoom = (1 - _AROUND) * min(width / um[0], height / um[1])
