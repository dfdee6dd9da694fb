"""What painters of outlines share: their place over a slide, and what they hand over to the graphics card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer

from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.scene_place import ScenePlace

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis._napari.outline_visual import LineStyle

__all__ = ["CASED", "ScenePainter"]

#: A casing borders lines that are looked at one by one; of more lines than this, none is.
CASED = 6000


class ScenePainter(QObject):
    """Keeps lines and dots over a slide; what they show, says whoever derives from it.

    Parameters
    ----------
    viewer
        The viewer.
    slide
        The slide's layer, already in the viewer: lines lie where it lies.
    order
        The larger, the later it is drawn.

    Attributes
    ----------
    count
        Lines and dots on the graphics card.
    """

    #: What a casing adds to a line's width, in screen pixels, and how opaque it is.
    _casing_px: float
    _casing_opacity: float

    def __init__(self, viewer: Viewer, slide: Layer, *, order: int) -> None:
        super().__init__()
        self._place, self._order = ScenePlace(viewer, slide), order
        self._visible = True
        self._nodes: tuple[Any, ...] = ()
        self.count = 0
        self._timers: tuple[QTimer, ...] = ()
        camera = camera_of(viewer)
        self._slots: tuple[tuple[Any, Callable[..., Any]], ...] = (
            (camera.events.zoom, self._on_view_changed),
            (camera.events.center, self._on_view_changed),
            (viewer.dims.events.ndisplay, self._look),
            (viewer.dims.events.order, self._look),
            (slide.events.rotate, self._look),
            (slide.events.affine, self._look),
        )

    def _listen(self, slots: Iterable[tuple[Any, Callable[..., Any]]], *timers: QTimer) -> None:
        """Listen to more signals; while one of the timers runs, not all that is in view is drawn."""
        self._slots, self._timers = (*slots, *self._slots), timers
        for signal, slot in self._slots:
            signal.connect(slot)

    def _on_view_changed(self, _: Any = None) -> None:
        raise NotImplementedError

    def _look(self, _: Any = None) -> None:
        """Draw what is in view."""
        raise NotImplementedError

    def _styles(self, *, dots: bool) -> tuple[list[LineStyle], list[LineStyle]]:
        """Return how lines, or dots, look, and what lies beneath each of them."""
        raise NotImplementedError

    @property
    def can_draw(self) -> bool:
        """Return whether napari lets the plugin draw on its canvas."""
        return self._place.can_draw

    @property
    def done(self) -> bool:
        """Return whether all that is in view is drawn."""
        return not any(timer.isActive() for timer in self._timers)

    @property
    def visible(self) -> bool:
        """Return whether lines are shown, where there are any."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        self._look()

    def close(self) -> None:
        """Stop listening, and take the lines away."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        for timer in self._timers:
            timer.stop()
        for node in self._nodes:
            node.parent = None
        self._nodes = ()

    def _hide(self) -> None:
        self.count = 0
        for node in self._nodes:
            node.visible = False

    def _make_nodes(self) -> bool:
        """Put the lines into the scene; return whether that was possible."""
        if not self._nodes and self.can_draw:
            from napari_metastasis._napari.outline_visual import DotNode, LineNode

            kinds = [(Node, *self._styles(dots=dots)) for Node, dots in ((LineNode, False), (DotNode, True))]
            casing = {"wider_px": self._casing_px, "opacity": self._casing_opacity}
            self._nodes = (
                *(Node(styles=casings, **casing) for Node, _, casings in kinds),
                *(Node(styles=drawn) for Node, drawn, _ in kinds),
            )
        if self._nodes:
            self._place.put(self._nodes, self._order)
        return bool(self._nodes)

    def _upload(
        self,
        ends: npt.NDArray[np.float64],
        of_line: npt.NDArray[np.intp],
        dots: npt.NDArray[np.float64],
        of_dot: npt.NDArray[np.intp],
    ) -> None:
        """Hand lines, (n, 2, 2), and dots, (n, 2), over to the graphics card, each with the number of its style."""
        from vispy.gloo import VertexBuffer

        from napari_metastasis._napari.outline_visual import dot_vertices, line_vertices

        self.count = len(ends) + len(dots)
        parts: Sequence[tuple[npt.NDArray[np.void], int]] = (
            (line_vertices(ends, of_line), len(ends)),
            (dot_vertices(dots, of_dot), len(dots)),
        )
        for at, (vertices, count) in enumerate(parts):
            buffer = VertexBuffer(vertices) if count else None
            casing, node = self._nodes[at], self._nodes[at + 2]
            node.show(buffer, count)
            node.visible = count > 0
            casing.visible = 0 < count <= CASED
            if casing.visible:
                casing.show(buffer, count)
