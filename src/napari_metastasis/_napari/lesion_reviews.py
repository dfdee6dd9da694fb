"""Finds out of which lesions a person has spoken, at every threshold and after every correction."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import OneWorker, ShouldStop, Worker

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Correction
    from napari_metastasis.lesions import CorrectionCells

__all__ = ["LesionReviews"]

#: So many corrections are looked up at once, while a person waits; more, as of a file, beside the window.
_AT_ONCE = 8
#: Of so many corrections all are matched at every move of the threshold; of more, once it rests.
_FEW, _REST_MS = 300, 150


class LesionReviews(QObject):
    """Keeps what the corrections of a session say of its lesions.

    Parameters
    ----------
    session
        The slide's session.
    parent
        Qt parent.
    """

    #: The exception that ended a search.
    failed = Signal(object)

    def __init__(self, session: SlideSession, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._cells: CorrectionCells | None = None
        self._worker = OneWorker("reviews", self)
        self._worker.failed.connect(self.failed)
        self._worker.ended.connect(self.match)
        self._rest = single_shot(self, _REST_MS, self.match)
        session.found_changed.connect(self._on_found_changed)
        session.corrections.changed.connect(self.match)

    @property
    def running(self) -> bool:
        """Return whether it is still being found out."""
        return self._worker.running or self._rest.isActive()

    @property
    def cells(self) -> CorrectionCells | None:
        """Return the cells of the map that corrections lie on; ``None`` before there are lesions."""
        return self._cells

    def stop(self) -> Worker | None:
        """Match no more; return the worker that is still at it."""
        self._rest.stop()
        return self._worker.stop()

    def _on_found_changed(self) -> None:
        if self._session.found is None:
            self._session.show_reviewed(None)
        elif len(self._session.corrections.present) <= _FEW:
            self.match()
        else:
            self._rest.start()

    def match(self) -> None:
        """Find out of which lesions was spoken."""
        # Imported by now: without the core there are no lesions.
        from napari_metastasis.lesions import CorrectionCells, match_corrections

        session, found = self._session, self._session.found
        self._rest.stop()
        if found is None or session.closed or self._worker.running:
            return
        if self._cells is None or self._cells.frame != found.frame:
            self._cells = CorrectionCells(found.frame)
        present = session.corrections.present
        lacking = self._cells.lacking(present)
        if len(lacking) > _AT_ONCE:
            self._look_up(self._cells, lacking)
            return
        session.show_reviewed(match_corrections(found, present, self._cells))

    def _look_up(self, cells: CorrectionCells, lacking: tuple[Correction, ...]) -> None:
        def show(more: CorrectionCells) -> None:
            if self._cells is cells:
                self._cells = more

        self._worker.run(partial(_cells_work, cells, lacking), show, urgent=True)


def _cells_work(cells: CorrectionCells, lacking: tuple[Correction, ...], _: ShouldStop) -> CorrectionCells:
    """Return the cells with those of more corrections."""
    return cells.with_cells_of(lacking)
