"""Fills the overview: the slide's picture and its heat come from beside the window, the rest from the camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.looked_at import CLOSE
from napari_metastasis._napari.overview import Overview, thumbnail_image
from napari_metastasis._napari.overview_work import OverviewHeat, heat_work
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import Worker
from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari_metastasis._napari.looked_at import LookedAt
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.view_transform import ViewTransform

__all__ = ["OverviewControl"]

#: Heat is drawn anew at most this often; and soon after the first of it came.
_HEAT_MS, _FIRST_HEAT_MS = 1000, 50
#: What is in view for so long was looked at; a flight over the slide looks at nothing.
_LOOK_MS = 200
#: A view is at a magnification, as far as a person sees, from so much of it.
_NEARLY = 0.97


class OverviewControl(QObject):
    """Keeps the overview in step with the slide that is shown.

    Parameters
    ----------
    canvas
        What napari draws in.
    magnification
        Returns the magnification of the view.
    looked_at
        Returns what of a slide was looked at at 10x or closer.
    """

    def __init__(
        self, canvas: QWidget, magnification: Callable[[], float], looked_at: Callable[[SlideSession], LookedAt]
    ) -> None:
        super().__init__(canvas)
        self.widget = Overview(canvas)
        self._magnification, self.looked_at = magnification, looked_at
        self._session: SlideSession | None = None
        self._view: ViewTransform | None = None
        self._wanted = True
        self._thumbnails: WeakKeyDictionary[SlideSession, QImage] = WeakKeyDictionary()
        self._heat: OverviewHeat | None = None
        self._workers: list[Worker] = []
        self._heat_worker: Worker | None = None
        self._due = single_shot(self, _HEAT_MS, self._find_heat)
        self._look = single_shot(self, _LOOK_MS, self._on_look)
        self._seen = Region(0, 0, 0, 0)

    def switch(self, wanted: bool) -> None:
        """Show the overview, or hide it."""
        self._wanted = wanted
        self._show_or_hide()

    def show(self, session: SlideSession | None) -> None:
        """Show another slide; ``None`` where there is none."""
        for worker in self._workers:
            worker.abandon()
            worker.deleteLater()
        self._workers, self._heat_worker, self._heat = [], None, None
        self._due.stop()
        self._look.stop()
        self._seen = Region(0, 0, 0, 0)
        if self._session is not None:
            self._session.thumbnail_changed.disconnect(self._show_thumbnail, missing_ok=True)
        self._session = session
        self.widget.show_slide(None if session is None else session.slide.size)
        if session is not None:
            session.thumbnail_changed.connect(self._show_thumbnail)
            self._show_thumbnail()
            self.follow_looks()
            self.follow_maps()
        self._show_or_hide()

    def close(self) -> None:
        """End all work, and show nothing more."""
        self.show(None)

    def follow_view(self, view: ViewTransform | None) -> None:
        """Show the frame of what the window shows, and mark what is looked at."""
        self._view = view
        self.widget.show_view(view)
        self._show_or_hide()
        if view is not None and self._magnification() >= CLOSE * _NEARLY and not self._look.isActive():
            self._look.start()

    def follow_maps(self) -> None:
        """Show the heat soon: the maps, their shares or the tissue changed."""
        if self._session is None:
            return
        if self._session.heatmap is None:
            self._heat = None
            self._draw_heat()
        elif not self._due.isActive():
            self._due.start(_FIRST_HEAT_MS if self._heat is None else _HEAT_MS)

    def follow_looks(self) -> None:
        """Show what was looked at."""
        if self._session is not None:
            self.widget.show_looked_at(self.looked_at(self._session))

    def follow_threshold(self) -> None:
        """Show the heat from the threshold on."""
        self._draw_heat()

    def _show_or_hide(self) -> None:
        self.widget.setVisible(self._wanted and self._session is not None and self._view is not None)

    def _run(self, work: Any, show: Callable[[Any], None]) -> Worker:
        worker = Worker(work, name="overview", parent=self)
        worker.succeeded.connect(show)
        worker.ended.connect(lambda: self._workers.remove(worker))
        worker.ended.connect(worker.deleteLater)
        self._workers.append(worker)
        worker.start()
        return worker

    def _show_thumbnail(self) -> None:
        session = self._session
        if session is None or session.thumbnail is None:
            return
        image = self._thumbnails.get(session)
        if image is None:
            image = self._thumbnails[session] = thumbnail_image(session.thumbnail, self.widget.devicePixelRatioF())
        self.widget.show_thumbnail(image)

    def _find_heat(self) -> None:
        session = self._session
        if session is None or session.heatmap is None:
            return
        if self._heat_worker in self._workers:
            self._due.start(_HEAT_MS)  # the last is not ready yet
            return
        shares = [session.share_of(one.kind.name) for one in session.later_maps]
        work = partial(heat_work, tuple(session.maps.values()), shares, session.tissue)
        self._heat_worker = self._run(work, self._on_heat)

    def _on_heat(self, heat: Any) -> None:
        self._heat = heat
        self._draw_heat()

    def _draw_heat(self) -> None:
        session = self._session
        if session is None or session.heatmap is None:
            self.widget.show_heat(None, "", 1.0)
        else:
            self.widget.show_heat(self._heat, session.heatmap.kind.colors, session.threshold)

    def _on_look(self) -> None:
        """Mark what was in view all the time since the last look."""
        if self._session is None or self._view is None:
            return
        xs, ys = zip(*((corner.x, corner.y) for corner in self._view.corners), strict=True)
        now = Region(round(min(xs)), round(min(ys)), round(max(xs) - min(xs)), round(max(ys) - min(ys)))
        close = self._magnification() >= CLOSE * _NEARLY
        stayed = now.intersection(self._seen) if close else Region(0, 0, 0, 0)
        rests = now == self._seen
        self._seen = now if close else Region(0, 0, 0, 0)
        looked_at = self.looked_at(self._session)
        if not stayed.is_empty and looked_at.mark(stayed):
            self.widget.show_looked_at(looked_at)
        if close and not rests:
            self._look.start()
