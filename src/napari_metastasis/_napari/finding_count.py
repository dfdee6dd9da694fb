"""Counts beside the window what counts: the findings without those that were taken away, and what was drawn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import OneWorker, ShouldStop, Worker

if TYPE_CHECKING:
    from napari_metastasis._napari.lesion_reviews import LesionReviews
    from napari_metastasis._napari.said_rows import SaidRows
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Corrections
    from napari_metastasis.lesions import CorrectionCells, LesionRow, Reviewed

__all__ = ["FindingCount"]

#: A person sees the next finding first.
_REST_MS = 60


class FindingCount(QObject):
    """Keeps the line that says what counts; the session takes it.

    Parameters
    ----------
    session
        The slide's session.
    reviews
        Finds out of which lesions was spoken.
    parent
        Qt parent.
    """

    #: The exception that ended counting.
    failed = Signal(object)

    def __init__(self, session: SlideSession, reviews: LesionReviews, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._reviews = session, reviews
        self._measured: SaidRows | None = None
        self._worker = OneWorker("count", self)
        self._worker.failed.connect(self.failed)
        self._worker.ended.connect(self._on_ended)
        self._again = False
        self._soon = single_shot(self, _REST_MS, self._begin)
        session.found_changed.connect(self._on_changed)
        session.reviewed_changed.connect(self._on_changed)
        session.corrections.changed.connect(self._on_changed)

    @property
    def running(self) -> bool:
        """Return whether what is said may be of a while ago."""
        return self._worker.running or self._soon.isActive()

    def stop(self) -> Worker | None:
        """Count no more; return the worker that is still at it."""
        self._soon.stop()
        self._again = False
        return self._worker.stop()

    def _on_changed(self) -> None:
        session = self._session
        if session.found is None and not session.corrections.present.of_lesions:
            session.show_counted("")
        elif not session.closed and not self._soon.isActive():
            self._soon.start()

    def _begin(self) -> None:
        if self._worker.running:
            self._again = True
            return
        # Imported by now: without the core there are no lesions.
        from napari_metastasis._napari.said_rows import SaidRows
        from napari_metastasis.lesions import CorrectionCells, Reviewed, grid_of_outlines

        session, cells = self._session, self._reviews.cells
        found, present = session.found, session.corrections.present
        if self._measured is None:
            self._measured = SaidRows(session.slide.mpp)
        if cells is None:
            cells = CorrectionCells(grid_of_outlines(session.slide.size, session.slide.mpp))
        # Where nothing was found, all that was drawn stands alone.
        alone = tuple(one.key for one in present.of_lesions) if found is None else ()
        said = session.reviewed or Reviewed(alone=alone)
        rows = () if found is None else found.rows
        # The worker's own: others are looked up meanwhile.
        work = partial(_count_work, rows, present, said, cells.with_cells_of(()), self._measured)
        self._worker.run(work, self._show, urgent=True)

    def _show(self, line: str) -> None:
        session = self._session
        # What was counted may have been taken back meanwhile.
        if not session.closed and (session.found is not None or session.corrections.present.of_lesions):
            session.show_counted(line)

    def _on_ended(self) -> None:
        if self._again:
            self._again = False
            self._begin()


def _count_work(
    rows: tuple[LesionRow, ...],
    corrections: Corrections,
    reviewed: Reviewed,
    cells: CorrectionCells,
    measured: SaidRows,
    _: ShouldStop,
) -> str:
    from napari_metastasis.lesions import listed_rows
    from napari_metastasis.lesions.texts import counted_text

    return counted_text(listed_rows(rows, corrections, reviewed, cells, measured.measured))
