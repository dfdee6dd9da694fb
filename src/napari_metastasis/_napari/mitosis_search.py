"""Reads the mitoses of a slide off their map beside the window, at the threshold, and keeps their files as shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import OneWorker, ShouldStop, Work, Worker
from napari_metastasis.geometry import ChunkedCells

if TYPE_CHECKING:
    from pathlib import Path

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Corrections
    from napari_metastasis.geometry import HeatmapFrame
    from napari_metastasis.lesions import Mitoses
    from napari_metastasis.settings import MitosisSettings
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan.mitoses import MitosisReading

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
        #: What the files say; ``None`` where a scan is writing them, or there are none.
        self._on_disk: Mitoses | None = None
        self._folder: Path | None = None
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

    def follow(self, folder: Path | None, written: Mitoses | None) -> None:
        """Keep the files of a result as its mitoses are shown from now on.

        Parameters
        ----------
        folder
            The result folder; ``None`` to write nothing.
        written
            What its files say; ``None`` where that is what is read first.
        """
        self._folder, self._on_disk = folder, written
        self._rest.stop()

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
        if reading is not None and asked < reading.index.settings.floor:
            reading = None
        said = session.corrections.present
        work = partial(_read_work, reading, cells, frame, tissue, state.settings, asked, session.slide.mpp, said)

        def show(read: tuple[MitosisReading, Mitoses]) -> None:
            if session.closed or state.frame is not frame or session.tissue is not tissue:
                self._again = not session.closed
                return
            self._reading, found = read if not self._again else (None, read[1])
            if self._folder is not None and self._on_disk is None:
                self._on_disk = found
            state.show_found(found, floor=read[0].index.settings.floor)
            self._next = time.monotonic() + max(_EVERY_S, _PAUSES * (time.monotonic() - began))
            self._again = self._again or state.threshold != asked or session.corrections.present is not said

        self._worker.run(work, show, urgent=not session.activity.busy)

    def _on_ended(self) -> None:
        if self._again:
            self._again = False
            self._start()

    # -- files ---------------------------------------------------------------------------------------------------

    def _unwritten(self) -> Mitoses | None:
        found = self._session.mitoses.found
        if self._folder is None or found is None or self._on_disk is None or found is self._on_disk:
            return None
        return found if found.threshold == self._session.mitoses.threshold else None

    def write(self) -> None:
        """Write the files of what is shown, unless they are as they should be, or it is not known yet."""
        self._rest.stop()
        found = self._unwritten()
        if self._worker.running or self._writer.running or self._follow.isActive():
            self._rest.start()
        elif found is not None and self._folder is not None:
            self._on_disk = found
            self._writer.run(partial(_write_work, self._folder, self._session.slide, found), lambda _: None)

    def _on_write_failed(self, error: BaseException) -> None:
        self.failed.emit(error)

    def _on_written(self) -> None:
        if self._unwritten() is not None and not self._session.closed:
            self._rest.start()

    def close(self) -> tuple[tuple[Worker, ...], Work | None]:
        """Read and write no more; return the workers that are still at it, and what is left to be written."""
        self._follow.stop()
        self._rest.stop()
        self._again = False
        found, state, tissue = self._unwritten(), self._session.mitoses, self._session.tissue
        left: Work | None = None
        if self._folder is not None and self._on_disk is not None and state.threshold != self._on_disk.threshold:
            if found is not None:
                left = partial(_write_work, self._folder, self._session.slide, found)
            elif (cells := state.cells) is not None and state.frame is not None and tissue is not None:
                slide = self._session.slide
                read = partial(
                    _read_work,
                    None,
                    cells,
                    state.frame,
                    tissue,
                    state.settings,
                    state.threshold,
                    slide.mpp,
                    self._session.corrections.present,
                )
                left = partial(_read_and_write_work, self._folder, slide, read)
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
        # A copy, because the window goes on writing; a piece that is half written is whole the next time.
        cells = ChunkedCells(cells.size, {key: chunk.copy() for key, chunk in cells.chunks.items()})
        reading = read_mitoses(cells, frame, tissue, settings, threshold)
    return reading, reading.at(threshold, settings, mpp).reviewed(said)


def _write_work(folder: Path, slide: Slide, found: Mitoses, _: ShouldStop) -> bool:
    from napari_metastasis.workflows.scan.mitoses import write_shown_mitoses

    return write_shown_mitoses(folder, slide, found)


def _read_and_write_work(
    folder: Path, slide: Slide, read: Callable[[ShouldStop], tuple[MitosisReading, Mitoses]], should_stop: ShouldStop
) -> bool:
    return _write_work(folder, slide, read(should_stop)[1], should_stop)
