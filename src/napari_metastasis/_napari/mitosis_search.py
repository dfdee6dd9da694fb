"""Reads the mitoses of a slide off their map beside the window, at the threshold, and keeps their files as shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import OneWorker, ShouldStop, Work, Worker, explain
from napari_metastasis.geometry import ChunkedCells

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Corrections
    from napari_metastasis.geometry import HeatmapFrame
    from napari_metastasis.lesions import Mitoses
    from napari_metastasis.settings import MitosisSettings
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan.mitoses import MitosisReading
    from napari_metastasis.workflows.scan.mitosis_results import MitosisSource

__all__ = ["MitosisSearch"]

#: Counts follow the threshold at most this often while the slider moves; files once it rests.
_FOLLOW_MS, _REST_MS = 60, 800
#: While a scan runs they are read again after this time, and after so many times what the last reading took.
_EVERY_S, _PAUSES = 3.0, 12.0


class MitosisSearch(QObject):
    """Reads the mitoses of a session, one reading at a time; the session takes them.

    Parameters
    ----------
    session
        The slide's session.
    parent
        Qt parent.
    """

    #: The exception that ended a reading, or writing.
    failed = Signal(object)

    def __init__(self, session: SlideSession, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._worker, self._writer = OneWorker("mitoses", self), OneWorker("mitosis-files", self)
        self._worker.failed.connect(self.failed)
        self._worker.ended.connect(self._on_ended)
        self._writer.failed.connect(self._on_write_failed)
        self._writer.ended.connect(self._on_written)
        self._reading: MitosisReading | None = None
        self._again = False
        self._next = 0.0
        #: Whose files are kept as shown, and the threshold that they were written at.
        self._source: MitosisSource | None = None
        self._held: tuple[MitosisSource | None, float] | None = None
        self._told = ""
        self._written = 0.0
        self._follow = single_shot(self, _FOLLOW_MS, self._start)
        self._rest = single_shot(self, _REST_MS, self.write)
        state = session.mitoses
        state.threshold_changed.connect(self._on_threshold_changed)
        state.cells_written.connect(self._on_cells_written)
        state.map_changed.connect(self.start)
        session.tissue_changed.connect(self.start)
        session.corrections.changed.connect(self._on_said)

    @property
    def running(self) -> bool:
        """Return whether what is shown may be of a while ago, or is not written yet."""
        return self._worker.running or self._writer.running or self._follow.isActive() or self._rest.isActive()

    def follow(self, source: MitosisSource | None, threshold: float) -> None:
        """Keep the files of a result as its mitoses are shown from now on.

        Parameters
        ----------
        source
            The map that is shown; ``None`` to write nothing.
        threshold
            That its files were written at.
        """
        self._rest.stop()
        self._source, self._written = source, threshold
        self._held = None
        if self._unwritten_threshold:
            # It was moved while a scan wrote them.
            self._rest.start()

    def hold(self) -> None:
        """Write nothing for now: a scan begins, and will write the files itself."""
        self._rest.stop()
        self._held = (self._source, self._written)
        self._source = None

    def resume(self) -> None:
        """Go on where :meth:`hold` stopped: the scan failed."""
        if self._held is not None:
            self.follow(*self._held)

    @property
    def _unwritten_threshold(self) -> bool:
        return self._source is not None and self._session.mitoses.threshold != self._written

    @property
    def settled(self) -> bool:
        """Return whether the files are as they will stay."""
        return not (self._unwritten_threshold or self._writer.running) or bool(self._told)

    def _on_cells_written(self) -> None:
        if not self._worker.running and time.monotonic() >= self._next:
            self.start()

    def _on_said(self) -> None:
        # The tables follow what was said once that lies on the disk.
        if self._reading is not None or self._worker.running:
            self._start()

    def _on_threshold_changed(self, _: float) -> None:
        if not self._follow.isActive():
            self._follow.start()
        self._rest.start()

    def start(self) -> None:
        """Read the map as it is now; a reading that is running is followed by another one."""
        self._reading = None
        self._start()

    def _start(self) -> None:
        session = self._session
        state, tissue = session.mitoses, session.tissue
        cells = state.cells
        if session.closed or cells is None or state.frame is None or tissue is None:
            return
        if self._worker.running:
            self._again = True
            return
        began, frame, asked, reading = time.monotonic(), state.frame, state.threshold, self._reading
        if reading is not None and asked < reading.floor:
            reading = None
        said = session.corrections.present
        work = partial(_read_work, reading, cells, frame, tissue, state.settings, asked, session.slide.mpp, said)

        def show(read: tuple[MitosisReading, Mitoses]) -> None:
            if session.closed or state.frame is not frame or session.tissue is not tissue:
                self._again = not session.closed
                return
            self._reading, found = read if not self._again else (None, read[1])
            state.show_found(found, floor=read[0].floor)
            self._next = time.monotonic() + max(_EVERY_S, _PAUSES * (time.monotonic() - began))
            self._again = self._again or state.threshold != asked or session.corrections.present is not said

        self._worker.run(work, show, urgent=not session.activity.busy)

    def _on_ended(self) -> None:
        if self._again:
            self._again = False
            self._start()

    # -- files ---------------------------------------------------------------------------------------------------

    def _unwritten(self) -> Mitoses | None:
        """Return what is to be written; ``None`` where there is nothing, or it is not known yet."""
        state = self._session.mitoses
        found = state.found
        if not self._unwritten_threshold or found is None or found.threshold != state.threshold:
            return None
        return found

    def write(self) -> None:
        """Write the files of what is shown, unless they are as they should be, or it is not known yet."""
        self._rest.stop()
        found, source = self._unwritten(), self._source
        if self._unwritten_threshold and (self._writer.running or found is None):
            self._rest.start()
        elif found is not None and source is not None:

            def on_written(written: bool) -> None:
                self._told = ""
                if written and self._source is source:
                    self._written = found.threshold

            self._writer.run(partial(_write_work, source, self._session.slide, found), on_written)

    def _on_write_failed(self, error: BaseException) -> None:
        line = explain(error)
        if line != self._told:
            self._told = line
            self.failed.emit(error)

    def _on_written(self) -> None:
        # What could not be written waits for the next move.
        if self._unwritten_threshold and not self._told and not self._session.closed:
            self._rest.start()

    def leave(self) -> Work | None:
        """Write no more of this result, for another is shown; return what is left to be written."""
        self._rest.stop()
        source = self._source if self._unwritten_threshold else None
        found, state = self._unwritten(), self._session.mitoses
        slide, tissue, cells = self._session.slide, self._session.tissue, state.cells
        self._source = None
        if source is None:
            return None
        if found is not None:
            return partial(_write_work, source, slide, found)
        if cells is None or state.frame is None or tissue is None:
            return None
        said = self._session.corrections.present
        read = partial(_read_work, None, cells, state.frame, tissue, state.settings, state.threshold, slide.mpp, said)
        return partial(_read_and_write_work, source, slide, read)

    def close(self) -> tuple[tuple[Worker, ...], Work | None]:
        """Read and write no more; return the workers that are still at it, and what is left to be written."""
        left = self.leave()
        self._follow.stop()
        self._again = False
        workers = tuple(one for one in (self._worker.stop(), self._writer.stop()) if one is not None)
        return workers, left


def _read_work(
    reading: MitosisReading | None,
    cells: ChunkedCells,
    frame: HeatmapFrame,
    tissue: TissueMask,
    settings: MitosisSettings,
    threshold: float,
    mpp: float,
    said: Corrections,
    _: ShouldStop,
) -> tuple[MitosisReading, Mitoses]:
    """Return a map of mitoses, read, and what counts at a threshold, by what people said; a known reading is used."""
    from napari_metastasis.workflows.scan.mitoses import read_mitoses

    if reading is None:
        # The window goes on writing meanwhile; a piece that is half written is whole the next time.
        reading = read_mitoses(cells, frame, tissue, settings, threshold)
    return reading, reading.at(threshold, settings, mpp, said)


def _write_work(source: MitosisSource, slide: Slide, found: Mitoses, _: ShouldStop) -> bool:
    from napari_metastasis.workflows.scan.mitosis_results import write_shown_mitoses

    return write_shown_mitoses(source, slide, found)


def _read_and_write_work(
    source: MitosisSource,
    slide: Slide,
    read: Callable[[ShouldStop], tuple[MitosisReading, Mitoses]],
    should_stop: ShouldStop,
) -> bool:
    return _write_work(source, slide, read(should_stop)[1], should_stop)
