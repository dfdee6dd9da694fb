"""Where the pixels of the canvas lie on the slide, however the view is moved, zoomed, turned or mirrored. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_metastasis._napari.compat import camera_of, canvas_size, um_per_unit
from napari_metastasis._napari.regions import view_axes, view_focus
from napari_metastasis.geometry import Point

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis.slides import Slide

__all__ = ["ViewTransform", "view_transform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewTransform:
    """Between canvas pixels, (x, y) from the canvas' top-left corner, and level-0 locations of a slide.

    Attributes
    ----------
    focus
        The location in the middle of the canvas.
    width, height
        Of the canvas, in its pixels.
    px
        Level-0 pixels along a canvas pixel.
    transposed
        Whether the slide's rows run across the window.
    across, down
        1 where the slide's axis that runs across (down) the window runs to the right (downwards), else -1.
    """

    focus: Point
    width: float
    height: float
    px: float
    transposed: bool
    across: int
    down: int

    def to_slide(self, x: float, y: float) -> Point:
        """Return the level-0 location of a canvas pixel."""
        across = (x - self.width / 2) * self.across * self.px
        down = (y - self.height / 2) * self.down * self.px
        dx, dy = (down, across) if self.transposed else (across, down)
        return Point(self.focus.x + dx, self.focus.y + dy)

    def to_canvas(self, point: Point) -> tuple[float, float]:
        """Return the canvas pixel (x, y) of a level-0 location; it may lie outside the canvas."""
        dx, dy = (point.x - self.focus.x) / self.px, (point.y - self.focus.y) / self.px
        across, down = (dy, dx) if self.transposed else (dx, dy)
        return self.width / 2 + across * self.across, self.height / 2 + down * self.down

    def places_on_canvas(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the canvas pixels of many level-0 locations, (…, 2) of (x, y) both."""
        away = (places - (self.focus.x, self.focus.y)) / self.px
        across, down = np.moveaxis(away[..., ::-1] if self.transposed else away, -1, 0)
        return np.stack((self.width / 2 + across * self.across, self.height / 2 + down * self.down), axis=-1)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return the left, top, right and bottom of what the canvas shows, in level-0 pixels."""
        first, last = self.to_slide(0, 0), self.to_slide(self.width, self.height)
        return min(first.x, last.x), min(first.y, last.y), max(first.x, last.x), max(first.y, last.y)

    def shows(self, point: Point) -> bool:
        """Return whether a level-0 location lies on the canvas."""
        x, y = self.to_canvas(point)
        return 0 <= x <= self.width and 0 <= y <= self.height

    def shows_part_of(self, bounds: tuple[float, float, float, float]) -> bool:
        """Return whether a rectangle, its left, top, right and bottom in level-0 pixels, lies on the canvas in part."""
        left, top, right, bottom = self.bounds
        return bounds[0] <= right and bounds[2] >= left and bounds[1] <= bottom and bounds[3] >= top

    @property
    def corners(self) -> tuple[Point, Point, Point, Point]:
        """Return the locations of the canvas' corners: clockwise on the screen, from the top left one."""
        return (
            self.to_slide(0, 0),
            self.to_slide(self.width, 0),
            self.to_slide(self.width, self.height),
            self.to_slide(0, self.height),
        )


def view_transform(viewer: Viewer, slide: Slide) -> ViewTransform | None:
    """Return where the canvas' pixels lie on a slide.

    ``None`` where the window does not show it flat, or shows layers side by side: several places of the canvas then
    show one of the slide.
    """
    axes = view_axes(viewer)
    camera = camera_of(viewer)
    side_by_side = getattr(viewer, "canvas", viewer).grid.enabled
    if axes is None or viewer.dims.ndisplay != 2 or side_by_side or not camera.zoom > 0:
        return None
    width, height = canvas_size(viewer)
    down, across = (str(side) for side in camera.orientation2d)
    return ViewTransform(
        focus=view_focus(viewer, slide),
        width=width,
        height=height,
        px=float(um_per_unit(viewer)[0]) / camera.zoom / slide.mpp,
        transposed=axes == (1, 0),
        across=1 if across == "right" else -1,
        down=1 if down == "down" else -1,
    )
