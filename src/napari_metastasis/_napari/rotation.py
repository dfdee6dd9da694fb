"""Turns the view by quarters. The slide and all that lies on it stay where they are.

napari turns its camera in three dimensions only. In two, exchanged axes and mirrored directions of the camera together
give all quarter turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_metastasis._napari.compat import camera_of

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["Orientation", "orientation_of", "rotate", "set_orientation"]

#: Where a direction of the screen points after a quarter turn clockwise.
_CLOCKWISE = {"right": "down", "down": "left", "left": "up", "up": "right"}


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the axes of the slide lie on the screen.

    Attributes
    ----------
    transposed
        Whether the order of the last two axes is exchanged.
    down, across
        Where the axis that runs down the window ("down" or "up") and the one that runs across it ("right" or "left")
        point.
    """

    transposed: bool = False
    down: str = "down"
    across: str = "right"

    def turned(self) -> Orientation:
        """Return the orientation after a quarter turn of the picture, clockwise."""
        # What ran across runs down now, and the other way round.
        return Orientation(not self.transposed, down=_CLOCKWISE[self.across], across=_CLOCKWISE[self.down])


def orientation_of(viewer: Viewer) -> Orientation:
    """Return how the axes lie now."""
    down, across = (str(side) for side in camera_of(viewer).orientation2d)
    first, second = viewer.dims.order[-2:]
    return Orientation(first > second, down, across)


def set_orientation(viewer: Viewer, orientation: Orientation) -> None:
    """Lay the axes otherwise; the middle of the window and the zoom stay."""
    camera = camera_of(viewer)
    zoom, center = camera.zoom, camera.center
    if orientation.transposed != orientation_of(viewer).transposed:
        *others, first, second = viewer.dims.order
        # napari fits all layers to the window whenever the axes are exchanged.
        viewer.dims.order = (*others, second, first)
        center = (*center[:-2], center[-1], center[-2])
    camera.orientation2d = (orientation.down, orientation.across)
    camera.zoom = zoom
    camera.center = center


def rotate(viewer: Viewer, quarters: int) -> None:
    """Turn the view by quarters, clockwise; negative numbers turn it the other way."""
    orientation = orientation_of(viewer)
    for _ in range(quarters % 4):
        orientation = orientation.turned()
    set_orientation(viewer, orientation)
