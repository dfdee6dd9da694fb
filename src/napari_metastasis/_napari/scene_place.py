"""Where what the plugin draws itself lies in napari's scene: over a slide, wherever the slide is moved or turned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_metastasis._napari.compat import camera_of, canvas_size, scene_of, um_per_unit
from napari_metastasis._napari.regions import view_axes

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis.lesions import ContourLines

__all__ = ["ScenePlace", "SlideView"]


@dataclass(frozen=True, slots=True)
class SlideView:
    """The part of a slide that a window shows: in level-0 pixels, and how many screen pixels one of those takes."""

    left: float
    top: float
    right: float
    bottom: float
    scale: float

    def grown(self, share: float) -> SlideView:
        """Return a larger part, by a share of its sides on each of them."""
        x, y = (self.right - self.left) * share, (self.bottom - self.top) * share
        return SlideView(self.left - x, self.top - y, self.right + x, self.bottom + y, self.scale)

    def contains(self, other: SlideView) -> bool:
        """Return whether another part lies within this one."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )

    def part_of(self, lines: ContourLines) -> ContourLines:
        """Return the lines that may touch this part."""
        low, high = lines.ends.min(axis=1), lines.ends.max(axis=1)
        outside = (high < (self.left, self.top)) | (low > (self.right, self.bottom))
        return lines.chosen(~outside.any(axis=1))


class ScenePlace:
    """The place of a slide in the scene of a viewer.

    Parameters
    ----------
    viewer
        The viewer.
    slide
        The slide's layer, already in the viewer.
    """

    def __init__(self, viewer: Viewer, slide: Layer) -> None:
        self._viewer, self._slide = viewer, slide

    @property
    def can_draw(self) -> bool:
        """Return whether napari lets the plugin draw on its canvas."""
        return scene_of(self._viewer, self._slide) is not None

    def view(self) -> SlideView | None:
        """Return what the window shows of the slide; ``None`` where it does not show it flat."""
        axes = view_axes(self._viewer)
        if axes is None or self._viewer.dims.ndisplay != 2:
            return None
        camera = camera_of(self._viewer)
        width, height = canvas_size(self._viewer)
        center = np.array(camera.center[-2:])
        half = np.array([height, width]) / camera.zoom / 2
        corners = np.array([center + half * sign for sign in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
        matrix = self._matrix(axes)
        there = np.column_stack((corners[:, ::-1], np.ones(4))) @ np.linalg.inv(matrix).T
        (left, top), (right, bottom) = there[:, :2].min(axis=0), there[:, :2].max(axis=0)
        scale = camera.zoom * math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        return SlideView(float(left), float(top), float(right), float(bottom), float(scale))

    def put(self, nodes: Sequence[Any], order: int) -> None:
        """Put nodes that are drawn in level-0 pixels, (x, y), over the slide.

        Parameters
        ----------
        nodes
            Of vispy's scene, the one that is drawn last at the end.
        order
            Of the first; the larger, the later.
        """
        from vispy.visuals.transforms import MatrixTransform

        axes, parent = view_axes(self._viewer), scene_of(self._viewer, self._slide)
        if axes is None:
            return
        flat = self._matrix(axes)
        matrix = np.eye(4)
        matrix[:2, :2], matrix[3, :2] = flat[:2, :2].T, flat[:2, 2]
        for index, node in enumerate(nodes):
            if node.parent is not parent:
                node.parent = parent
            node.order = order + index
            node.transform = MatrixTransform(matrix)

    def _matrix(self, axes: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Return the 3 x 3 matrix from a level-0 location, (x, y, 1), to the scene's (x, y, 1)."""
        units = um_per_unit(self._viewer, self._slide) / um_per_unit(self._viewer)
        # A location on the slide is half a pixel more than its index, where the middle of the first pixel is 0.
        origin, right, down = (
            np.asarray(self._slide.data_to_world((y - 0.5, x - 0.5)))[-2:] * units
            for y, x in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0))
        )
        shown = [axes[1], axes[0]]
        return np.column_stack(
            [np.append((right - origin)[shown], 0), np.append((down - origin)[shown], 0), np.append(origin[shown], 1)]
        )
