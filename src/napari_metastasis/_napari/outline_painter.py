"""Draws the outlines of lesions over the slide: those in view, a few milliseconds at a time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_metastasis._napari.outline_source import contours_in
from napari_metastasis._napari.outline_styles import DOT_PX, LINE_PX, casings, style_of_lesions, styles
from napari_metastasis._napari.scene_painter import CASED, ScenePainter
from napari_metastasis._napari.scene_place import SlideView
from napari_metastasis._napari.timers import single_shot
from napari_metastasis.geometry import HeatmapFrame, Point

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis._napari.outline_visual import LineStyle
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.lesions import ContourLines, Findings

__all__ = ["OutlinePainter"]

#: Of more lines than this the tolerance is doubled, at most so often: software that draws is slow, and lines lie close.
_MANY, _COARSER = 10_000, 2
#: Side of the squares of cells that are drawn on their own, where no more than so many lie near the view; of a larger
#: part of the slide they are larger, so that few calls do all of it.
_SQUARE, _SQUARES = 256, 64
#: A lesion below so many screen pixels is a dot. Among more lines than are cased, dots are narrower by so much.
_DOT_PX, _NARROWER_PX = 4.0, 2.0
#: How long one turn may work, and how long the window then has for itself.
_TURN_S, _PAUSE_MS = 0.006, 6
#: What is drawn so far is shown this often.
_SHOW_S = 1.0
#: How long the view must rest before what came into it is drawn; what leaves a margin of a fifth of the view comes
#: sooner. All in the margin is drawn, too: of half a view it would be three times as much as is seen.
_REST_MS, _MARGIN = 90, 0.2
#: Lines may lie this far from the contour, in screen pixels; never finer than this share of a cell.
_TOLERANCE_PX, _FINEST_CELLS = 0.5, 1 / 16
#: They are simplified anew after so large a part of an octave of zoom: one in so many.
_STEPS = 2
#: Drawn over all layers.
_ORDER = 1_000_000


#: Side of a square in cells, and its row and column among those of its size.
_Key = tuple[int, int, int]


@dataclass(slots=True)
class _Square:
    """What is known of one square of cells: its contours, of which findings, and how far they were simplified."""

    findings: object = None
    exact: ContourLines | None = None
    detail: tuple[float, int] | None = None
    shown: ContourLines | None = None


@dataclass(slots=True)
class _Work:
    """What is to be drawn for a view: the squares of cells near it, and how far lines are simplified.

    The octave is the power of two, in level-0 pixels, of the tolerance: at most that in screen pixels, and more than a
    step of zoom below it. Lines are simplified as many octaves more as ``coarser`` says, and never to less than
    ``finest_px``.
    """

    area: SlideView
    octave: float
    side: int
    coarser: int
    finest_px: float
    squares: list[_Key] = field(default_factory=list)
    waiting: list[_Key] = field(default_factory=list)

    @property
    def dot_px(self) -> float:
        """Return the size, in level-0 pixels, below which a lesion is a dot."""
        return _DOT_PX / _TOLERANCE_PX * 2.0 ** (self.octave + 1 / _STEPS)

    def simplified(self, lines: ContourLines) -> ContourLines:
        """Return the lines of a square as they are drawn, small lesions as dots."""
        return lines.dotted(self.dot_px).simplified(max(2.0 ** (self.octave + self.coarser), self.finest_px))


class OutlinePainter(ScenePainter):
    """Keeps the outlines of a session's lesions over its slide.

    They are lines of one width on the screen at every zoom, where the interpolated probability is the threshold, in the
    colour of the lesion's size class; those of the chosen lesion are wider. Only what is in view is drawn, simplified
    to what the screen shows.

    Parameters
    ----------
    viewer
        The viewer.
    session
        Whose lesions are drawn.
    slide
        The slide's layer, already in the viewer: outlines lie where it lies.
    """

    _casing_px, _casing_opacity = 1.6, 0.75

    def __init__(self, viewer: Viewer, session: SlideSession, slide: Layer) -> None:
        super().__init__(viewer, slide, order=_ORDER)
        self._session = session
        self._squares: dict[_Key, _Square] = {}
        self._work: _Work | None = None
        self._drawn_at = 0.0
        self._moved_at = 0.0
        self._look_timer = single_shot(self, _REST_MS, self._look)
        self._turn_timer = single_shot(self, _PAUSE_MS, self._turn)
        self._again_timer = single_shot(self, 0, self._show_again)
        self._listen(
            (
                (session.found_changed, self._on_found_changed),
                (session.selected_changed, self._on_selected_changed),
                (session.reviewed_changed, self._on_selected_changed),
            ),
            self._look_timer,
            self._turn_timer,
            self._again_timer,
        )

    def _styles(self, *, dots: bool) -> tuple[list[LineStyle], list[LineStyle]]:
        drawn = styles(DOT_PX if dots else LINE_PX)
        return drawn, casings(drawn)

    def close(self) -> None:
        """Stop listening, and take the outlines away."""
        super().close()
        self._squares.clear()

    # -- what is to be drawn -------------------------------------------------------------------------------------

    def _on_found_changed(self) -> None:
        found = self._session.found
        if found is None:
            self._squares.clear()
        self._look(again=True)

    def _on_selected_changed(self) -> None:
        # Once: a decision changes what was said, and then what is chosen.
        self._again_timer.start()

    def _show_again(self) -> None:
        if self._work is not None and not self._work.waiting:
            self._show()

    def _on_view_changed(self, _: Any = None) -> None:
        self._moved_at = time.monotonic()
        if not self._look_timer.isActive():
            self._look_timer.start()

    def _look(self, _: Any = None, *, again: bool = False) -> None:
        """Find what of the lesions is in view, and draw what is not drawn yet."""
        view, found = self._place.view(), self._session.found
        if not self._visible or view is None or found is None:
            self._turn_timer.stop()
            self._work = None
            self._hide()
            return
        frame = found.frame
        self._place.put(self._nodes, self._order)
        resting = time.monotonic() - self._moved_at >= _REST_MS / 1000 * 0.9
        work = self._work
        octave = math.floor(_STEPS * math.log2(_TOLERANCE_PX / max(view.scale, 1e-9))) / _STEPS
        if work is not None and not again and work.area.contains(view) and (not resting or work.octave == octave):
            if not resting:
                self._look_timer.start()
            return
        area = view.grown(_MARGIN)
        squares = _squares_over(area, frame, (view.left + view.right) / 2, (view.top + view.bottom) / 2)
        side = squares[0][0] if squares else _SQUARE
        if work is not None and work.side != side:
            # Of another size, none is drawn again soon.
            self._squares.clear()
        # As coarse as it had to be last time: lines that are simplified in vain take most of the time.
        finest = _FINEST_CELLS * frame.cell_px
        coarser = 0 if work is None or work.octave != octave else work.coarser - (2 * self.count < _MANY)
        self._work = _Work(area, octave, side, max(coarser, 0), finest, squares, squares[::-1])
        self._turn()

    # -- drawing -------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Find the contours of the next squares, until the turn is over."""
        self._turn_timer.stop()
        work, found = self._work, self._session.found
        if work is None or found is None:
            return
        until = time.perf_counter() + _TURN_S
        while work.waiting and time.perf_counter() < until:
            self._draw(work.waiting.pop(), work, found)
        if not work.waiting and work.coarser < _COARSER and len(self._lines(work)) > _MANY:
            work.coarser += 1
            work.waiting = work.squares[::-1]
        if work.waiting:
            self._turn_timer.start()
        if not work.waiting or time.monotonic() - self._drawn_at > _SHOW_S:
            self._show()

    def _draw(self, key: _Key, work: _Work, found: Findings) -> None:
        square = self._squares.setdefault(key, _Square())
        if square.findings is not found:
            maps = tuple(self._session.maps.values())
            shares = [self._session.share_of(one.kind.name) for one in maps[1:]]
            side, row, column = key
            square.exact = contours_in(found, maps, shares, (row * side, column * side), side)
            square.findings, square.detail = found, None
        detail = (work.octave, work.coarser)
        if square.detail != detail:
            assert square.exact is not None
            square.shown = work.simplified(square.exact) if len(square.exact) else square.exact
            square.detail = detail

    def _lines(self, work: _Work) -> ContourLines:
        """Return what is known of the lines in view, and near it."""
        from napari_metastasis.lesions import ContourLines

        found = [self._squares[key].shown for key in work.squares if key in self._squares]
        joined = ContourLines.joined([work.area.part_of(one) for one in found if one is not None and len(one)])
        return joined.dotted(work.dot_px, parts=True)

    def _show(self) -> None:
        """Hand the lines over to the graphics card."""
        work, found = self._work, self._session.found
        self._drawn_at = time.monotonic()
        if work is None or found is None or not self._make_nodes():
            return
        lines = self._lines(work)
        if not len(lines):
            self._hide()
            return
        session = self._session
        most = int(lines.lesion.max())
        said = session.corrections.present
        style = style_of_lesions(found, session.reviewed, session.selected, said, most=most)[lines.lesion]
        kept = style >= 0  # those of lesions that are no more go at once, though their square is drawn later
        self._show_lines(lines.chosen(kept), style[kept])

    def _show_lines(self, lines: ContourLines, style: npt.NDArray[np.intp]) -> None:
        # The chosen lesion's outline lies over the others.
        order = np.argsort(style, kind="stable")
        dashed = np.array([one.dashed for one in styles(LINE_PX)])[style]
        if dashed.any():
            # Dashes run along an outline.
            chained = np.flatnonzero(dashed)[lines.chosen(dashed).chained()]
            order[dashed[order]] = chained[np.argsort(style[chained], kind="stable")]
        ends, style, dots = lines.ends[order], style[order], lines.is_dot[order]
        self._upload(ends[~dots], style[~dots], ends[dots, 0], style[dots])
        self._nodes[-1].wider_px = 0.0 if self.count <= CASED else -_NARROWER_PX


def _squares_over(area: SlideView, frame: HeatmapFrame, x: float, y: float) -> list[_Key]:
    """Return the squares of cells that touch an area, those nearest to a location first: few, and of one size."""
    first, last = frame.cell_at(Point(area.left, area.top)), frame.cell_at(Point(area.right, area.bottom))
    middle = frame.cell_at(Point(x, y))
    # A lesion at the map's edge is gone round one cell past it.
    top, left = max(0, math.floor(first.y)), max(0, math.floor(first.x))
    bottom, right = min(frame.cells.height, math.ceil(last.y)), min(frame.cells.width, math.ceil(last.x))
    side = _SQUARE
    while (bottom // side - top // side + 1) * (right // side - left // side + 1) > _SQUARES:
        side *= 2
    return sorted(
        (
            (side, row, column)
            for row in range(top // side, bottom // side + 1)
            for column in range(left // side, right // side + 1)
        ),
        key=lambda key: math.hypot(key[1] + 0.5 - middle.y / side, key[2] + 0.5 - middle.x / side),
    )
