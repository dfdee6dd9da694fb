"""Draws what a person drew over the slide: areas as lines and points as dots, however many there are."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject

from napari_metastasis._napari.compat import camera_of
from napari_metastasis._napari.scene_place import ScenePlace
from napari_metastasis._napari.timers import single_shot

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis._napari.correction_lines import CorrectionLines, ShownAreas
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Corrections

__all__ = ["CorrectionPainter"]

#: Over the outlines of lesions.
_ORDER = 1_000_100
#: What a casing adds to a line, in screen pixels, its colour and its opacity.
_CASING_PX, _CASING, _CASING_OPACITY = 1.8, (1.0, 1.0, 1.0), 0.8
#: How far lines may lie from what they show, in screen pixels; simplified anew after a part of an octave of zoom.
_TOLERANCE_PX, _STEPS = 0.4, 2
#: An area below so many screen pixels is a dot. More lines than these have no casing, and software draws them slowly:
#: where so many areas are in view, larger ones are dots, too.
_DOT_PX, _CASED, _CROWD, _CROWD_DOT_PX = 5.0, 6000, 500, 12.0
#: How long one turn may work, how many areas are simplified at once, and how long the window then has for itself.
_TURN_S, _TOGETHER, _PAUSE_MS = 0.005, 32, 5
_REST_MS, _MARGIN = 90, 0.25


class CorrectionPainter(QObject):
    """Keeps the corrections of a session over its slide.

    Parameters
    ----------
    viewer
        The viewer.
    session
        Whose corrections are drawn.
    slide
        The slide's layer, already in the viewer.
    """

    def __init__(self, viewer: Viewer, session: SlideSession, slide: Layer) -> None:
        super().__init__()
        self._session, self._place = session, ScenePlace(viewer, slide)
        self._visible = True
        self._nodes: tuple[Any, ...] = ()
        self._lines: CorrectionLines | None = None
        self._areas: ShownAreas | None = None
        self._points: tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]] | None = None
        self._of: tuple[Corrections, object] | None = None
        #: Lines and dots on the graphics card.
        self.count = 0
        self._soon = single_shot(self, _REST_MS, self._look)
        self._turns = single_shot(self, _PAUSE_MS, self._look)
        self._at_once = single_shot(self, 0, self._look)
        camera = camera_of(viewer)
        corrections = session.corrections
        self._slots: tuple[tuple[Any, Callable[..., Any]], ...] = (
            (corrections.changed, self._look_soon),
            (corrections.selected_changed, self._look_soon),
            (session.reviewed_changed, self._look_soon),
            (camera.events.zoom, self._on_view_changed),
            (camera.events.center, self._on_view_changed),
            (viewer.dims.events.ndisplay, self._look),
            (viewer.dims.events.order, self._look),
            (slide.events.affine, self._look),
        )
        for signal, slot in self._slots:
            signal.connect(slot)

    @property
    def done(self) -> bool:
        """Return whether all that is in view is drawn."""
        return not any(timer.isActive() for timer in (self._soon, self._turns, self._at_once))

    @property
    def visible(self) -> bool:
        """Return whether corrections are shown, where there are any."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        self._look()

    def close(self) -> None:
        """Stop listening, and take the lines away."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        for timer in (self._soon, self._turns, self._at_once):
            timer.stop()
        for node in self._nodes:
            node.parent = None
        self._nodes = ()

    def _on_view_changed(self, _: Any = None) -> None:
        if not self._soon.isActive() and len(self._session.corrections.present):
            self._soon.start()

    def _look_soon(self) -> None:
        """Draw once all that a change changes is known: one follows another."""
        self._at_once.start()

    def _look(self, _: Any = None) -> None:
        """Draw what is in view, as far as a turn goes."""
        self._turns.stop()
        self._at_once.stop()
        view = self._place.view()
        if not self._visible or view is None or not len(self._session.corrections.present):
            self._hide()
            return
        if not self._make_nodes():
            return
        self._place.put(self._nodes, _ORDER)
        areas = self._shown()
        assert self._lines is not None
        area = view.grown(_MARGIN)
        left, top, right, bottom = areas.bounds.T
        seen = (right >= area.left) & (left <= area.right) & (bottom >= area.top) & (top <= area.bottom)
        size = np.maximum(right - left, bottom - top) * view.scale
        small = size < (_DOT_PX if np.count_nonzero(seen & (size >= _DOT_PX)) <= _CROWD else _CROWD_DOT_PX)
        large = [areas.corrections[at] for at in np.flatnonzero(seen & ~small).tolist()]
        tolerance = 2.0 ** (math.floor(_STEPS * math.log2(_TOLERANCE_PX / max(view.scale, 1e-9))) / _STEPS)
        lacking = self._lines.lacking(large, tolerance)
        until = time.perf_counter() + _TURN_S
        for start in range(0, len(lacking), _TOGETHER):
            self._lines.make(lacking[start : start + _TOGETHER], tolerance)
            if time.perf_counter() > until and start + _TOGETHER < len(lacking):
                # The others keep the lines that they have until it is their turn.
                self._turns.start()
                break
        self._upload(areas, seen & ~small, seen & small)

    def _shown(self) -> ShownAreas:
        """Return the areas, which are looked through once for each change."""
        from napari_metastasis._napari.correction_lines import CorrectionLines, shown_areas, shown_points

        session = self._session
        present, reviewed = session.corrections.present, session.reviewed
        if self._of is None or self._of[0] is not present or self._of[1] is not reviewed or self._areas is None:
            if self._of is None or self._of[0] is not present:
                self._points = shown_points(present)
            self._areas = shown_areas(present, reviewed)
            self._of = present, reviewed
            self._lines = self._lines or CorrectionLines()
        return self._areas

    def _upload(self, areas: ShownAreas, large: npt.NDArray[np.bool_], small: npt.NDArray[np.bool_]) -> None:
        from vispy.gloo import VertexBuffer

        from napari_metastasis._napari.outline_visual import dot_vertices, line_vertices
        from napari_metastasis.annotations.corrections import LABELS

        assert self._lines is not None
        assert self._points is not None
        chosen = self._session.corrections.selected
        style = areas.style + len(LABELS) * np.array([one.key == chosen for one in areas.corrections], np.intp)
        order = np.flatnonzero(large)
        order = order[np.argsort(style[order], kind="stable")]
        each = self._lines.of([areas.corrections[at] for at in order.tolist()])
        ends = np.concatenate(each) if each else np.zeros((0, 2, 2))
        of_line = np.repeat(style[order], [len(one) for one in each])
        middles = (areas.bounds[small][:, :2] + areas.bounds[small][:, 2:]) / 2
        dots = np.concatenate((self._points[0], middles))
        of_dot = np.concatenate((self._points[1], style[small]))
        self.count = len(ends) + len(dots)
        for at, (vertices, count) in enumerate(
            ((line_vertices(ends, of_line), len(ends)), (dot_vertices(dots, of_dot), len(dots)))
        ):
            buffer = VertexBuffer(vertices) if count else None
            casing, node = self._nodes[at], self._nodes[at + 2]
            node.show(buffer, count)
            node.visible = count > 0
            casing.visible = 0 < count <= _CASED
            if casing.visible:
                casing.show(buffer, count)

    def _hide(self) -> None:
        self.count = 0
        for node in self._nodes:
            node.visible = False

    def _make_nodes(self) -> bool:
        """Put the lines into the scene; return whether that was possible."""
        if not self._nodes and self._place.can_draw:
            from napari_metastasis._napari.correction_lines import correction_styles
            from napari_metastasis._napari.outline_visual import DotNode, LineNode, LineStyle

            kinds = ((LineNode, correction_styles(dots=False)), (DotNode, correction_styles(dots=True)))
            self._nodes = (
                *(
                    Node(
                        styles=[LineStyle(one.width_px, _CASING, one.dashed) for one in drawn],
                        wider_px=_CASING_PX,
                        opacity=_CASING_OPACITY,
                    )
                    for Node, drawn in kinds
                ),
                *(Node(styles=drawn) for Node, drawn in kinds),
            )
        return bool(self._nodes)
