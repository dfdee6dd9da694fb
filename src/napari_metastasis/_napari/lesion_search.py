"""Looks for the lesions of a slide beside the window, and keeps them at the threshold."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.slide_work import Looked, index_work
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import OneWorker, Worker

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession

__all__ = ["LesionSearch"]

#: Labels and points follow the threshold at most this often while the slider moves.
_FOLLOW_MS = 60
#: Another blend of the maps is searched once their slider rests for so long.
_REST_MS = 150
#: While a scan runs its lesions are searched again after this time, and after so many times what the last search took:
#: the processor belongs to the scan.
_EVERY_S, _PAUSES = 3.0, 12.0


class LesionSearch(QObject):
    """Searches the maps of a session for lesions, one search at a time; the session takes what is found.

    Parameters
    ----------
    session
        The slide's session.
    parent
        Qt parent.

    Attributes
    ----------
    shares
        Share of each later map in the lesions that are shown, by its name.
    awaits_tissue
        Whether tissue is being looked for. Lesions wait for it: which of them are cut by the edge of what was scanned
        is part of what a table and files say of them.
    """

    #: The exception that ended a search.
    failed = Signal(object)

    def __init__(self, session: SlideSession, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self.shares: dict[str, float] = {}
        self._worker = OneWorker("lesions", self)
        self._worker.failed.connect(self.failed)
        self._worker.ended.connect(self._on_ended)
        self._again = False
        self._next = 0.0
        self.awaits_tissue = False
        self._follow = single_shot(self, _FOLLOW_MS, session.follow_threshold)
        self._rest = single_shot(self, _REST_MS, self.start)
        session.threshold_changed.connect(self._on_threshold_changed)
        session.share_changed.connect(self._on_share_changed)
        session.tissue_changed.connect(self.start)

    @property
    def running(self) -> bool:
        """Return whether lesions are being searched for."""
        return self._worker.running

    def on_scan_started(self) -> None:
        """Search for the first time after half the usual pause."""
        self._next = time.monotonic() + _EVERY_S / 2

    def on_cells_written(self) -> None:
        """Search the maps of a running scan, if it is time."""
        if not self._worker.running and time.monotonic() >= self._next:
            self.start()

    def start(self) -> None:
        """Search the maps as they are now; a search that is running is followed by another one."""
        session = self._session
        if session.closed or session.heatmap is None or (session.tissue is None and self.awaits_tissue):
            return
        if self._worker.running:
            self._again = True
            return
        began, heatmap, tissue = time.monotonic(), session.heatmap, session.tissue
        shares = {later.kind.name: session.share_of(later.kind.name) for later in session.later_maps}
        maps, known = tuple(session.maps.values()), session.tissue_cells
        own = session.unchosen_thresholds
        work = partial(index_work, maps, tuple(shares.values()), session.detection, tissue, known, own_thresholds=own)

        def show(looked: Looked) -> None:
            now = session.heatmap
            if now is not None and now.values is heatmap.values and not session.closed:
                self.shares = shares
                if session.tissue is tissue:
                    session.show_coverage(looked.coverage, looked.tissue_cells, read_from=looked.index.map)
                if looked.index.map in own:
                    session.suggest_threshold(own[looked.index.map])
                if session.threshold < looked.index.settings.floor:
                    # It was moved meanwhile, below what was prepared.
                    self._again = True
                else:
                    session.show_lesions(looked.index)
            # Showing counts too: on a large slide the outlines of all labels are drawn anew, on the GUI thread.
            self._next = time.monotonic() + max(_EVERY_S, _PAUSES * (time.monotonic() - began))

        # Without a scan beside it, a person waits for it.
        self._worker.run(work, show, urgent=not session.activity.busy)

    def _on_ended(self) -> None:
        if self._again:
            self._again = False
            self.start()

    def stop(self) -> Worker | None:
        """Search no more; return the worker that is still at it."""
        self._follow.stop()
        self._rest.stop()
        self._again = False
        return self._worker.stop()

    def _on_threshold_changed(self, _: float) -> None:
        if not self._follow.isActive():
            self._follow.start()

    def _on_share_changed(self, _name: str, _share: float) -> None:
        self._rest.start()
