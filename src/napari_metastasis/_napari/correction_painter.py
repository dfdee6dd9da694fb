"""Draws what a person drew over the slide: areas as lines and points as dots, however many there are."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_metastasis._napari.scene_painter import ScenePainter
from napari_metastasis._napari.timers import single_shot

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis._napari.correction_lines import CorrectionLines, ShownAreas
    from napari_metastasis._napari.outline_visual import LineStyle
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Corrections

__all__ = ["CorrectionPainter"]

#: Over the outlines of lesions.
_ORDER = 1_000_100
#: The colour of what borders a line.
_CASING = (1.0, 1.0, 1.0)
#: How far lines may lie from what they show, in screen pixels; simplified anew after a part of an octave of zoom.
_TOLERANCE_PX, _STEPS = 0.4, 2
#: An area below so many screen pixels is a dot. Software draws lines slowly: where so many areas are in view, larger
#: ones are dots, too.
_DOT_PX, _CROWD, _CROWD_DOT_PX = 5.0, 500, 12.0
#: How long one turn may work, how many areas are simplified at once, and how long the window then has for itself.
_TURN_S, _TOGETHER, _PAUSE_MS = 0.005, 32, 5
_REST_MS, _MARGIN = 90, 0.25


class CorrectionPainter(ScenePainter):
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

    _casing_px, _casing_opacity = 1.8, 0.8

    def __init__(self, viewer: Viewer, session: SlideSession, slide: Layer) -> None:
        super().__init__(viewer, slide, order=_ORDER)
        self._session = session
        self._lines: CorrectionLines | None = None
        self._areas: ShownAreas | None = None
        self._points: tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]] | None = None
        self._of: tuple[Corrections, object] | None = None
        self._soon = single_shot(self, _REST_MS, self._look)
        self._turns = single_shot(self, _PAUSE_MS, self._look)
        self._at_once = single_shot(self, 0, self._look)
        corrections = session.corrections
        signals = (corrections.changed, corrections.selected_changed, session.reviewed_changed)
        self._listen([(signal, self._look_soon) for signal in signals], self._soon, self._turns, self._at_once)

    def _styles(self, *, dots: bool) -> tuple[list[LineStyle], list[LineStyle]]:
        from napari_metastasis._napari.correction_lines import correction_styles
        from napari_metastasis._napari.outline_visual import LineStyle

        drawn = correction_styles(dots=dots)
        return drawn, [LineStyle(one.width_px, _CASING, one.dashed) for one in drawn]

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
        self._show(areas, seen & ~small, seen & small)

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

    def _show(self, areas: ShownAreas, large: npt.NDArray[np.bool_], small: npt.NDArray[np.bool_]) -> None:
        """Hand areas over as lines, small ones and points as dots."""
        from napari_metastasis.annotations.corrections import LABELS

        assert self._lines is not None
        assert self._points is not None
        chosen = self._session.corrections.selected
        style = areas.style + len(LABELS) * np.array([one.key == chosen for one in areas.corrections], np.intp)
        order = np.flatnonzero(large)
        order = order[np.argsort(style[order], kind="stable")]
        each = self._lines.of([areas.corrections[at] for at in order.tolist()])
        middles = (areas.bounds[small][:, :2] + areas.bounds[small][:, 2:]) / 2
        self._upload(
            np.concatenate(each) if each else np.zeros((0, 2, 2)),
            np.repeat(style[order], [len(one) for one in each]),
            np.concatenate((self._points[0], middles)),
            np.concatenate((self._points[1], style[small])),
        )
