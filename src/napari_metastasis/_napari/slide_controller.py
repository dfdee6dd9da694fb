"""One open slide in one window: its session, its layers, and the work that is done for it."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_metastasis._napari.compat import tiles_under_way
from napari_metastasis._napari.lesion_search import LesionSearch
from napari_metastasis._napari.session import Activity, SlideSession
from napari_metastasis._napari.slide_layers import SlideLayers
from napari_metastasis._napari.slide_work import load_earlier_work, mined_work, scan_work, swap_work, tissue_work
from napari_metastasis._napari.worker import Work, Worker, tell
from napari_metastasis.errors import ScanCancelledError
from napari_metastasis.settings import TissueSettings
from napari_metastasis.workflows.scan_job import AtHand, ScanJob, ScanStarted, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis.scanning import FinishedPiece
    from napari_metastasis.slides import TissueMask
    from napari_metastasis.workflows.engine_cache import EngineCache

__all__ = ["SlideController"]

#: How long closing the window waits for a scan: one piece of it, and the results.
_CLOSE_S = 20.0


class SlideController(QObject):
    """One open slide in one window.

    Parameters
    ----------
    viewer
        The viewer.
    session
        The slide's session.
    layer
        The slide's layer, already in the viewer.
    engines
        Makes and keeps the engines of scans.
    parent
        Qt parent.
    """

    def __init__(
        self, viewer: Viewer, session: SlideSession, layer: Layer, engines: EngineCache, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.session = session
        self._engines = engines
        self._tissue: Future[TissueMask | None] | None = None
        self.layers = SlideLayers(viewer, session, layer)
        self.layers.heatmap_removed.connect(self.cancel)
        self._viewer = viewer
        self._scan: Worker | None = None
        self._others: list[Worker] = []
        self._began = 0.0
        self._mpx = 0.0
        self._lesions = LesionSearch(session, self)
        self._lesions.failed.connect(self._on_other_failed)

    @property
    def busy(self) -> bool:
        """Return whether a scan is being prepared or running."""
        return self._scan is not None

    @property
    def looking_for_lesions(self) -> bool:
        """Return whether lesions of the latest heatmap are still being looked for."""
        return self._lesions.running

    # -- scanning ------------------------------------------------------------------------------------------------

    def scan(self, job: ScanJob) -> None:
        """Start a scan; nothing happens while one is running."""
        if self.busy or self.session.closed:
            return
        self._mpx = 0.0
        self.session.report(Activity(stage="Starting…", busy=True))
        known = self._tissue if job.tissue == TissueSettings() else None
        at_hand = AtHand(slide=self.session.slide, engines=self._engines, tissue=known)
        worker = Worker(partial(scan_work, job, at_hand), name="scan", parent=self)
        worker.yielded.connect(self._on_scan_yielded)
        worker.succeeded.connect(self._on_scan_succeeded)
        worker.failed.connect(self._on_scan_failed)
        self._scan = worker
        worker.start()

    def cancel(self) -> None:
        """Ask a running scan to end after its current piece; what was scanned is kept."""
        if self._scan is not None:
            self._scan.stop()
            self.session.report(Activity(stage=self._stage(""), busy=True))

    def _stage(self, otherwise: str) -> str:
        """Return "Stopping…" once the scan was asked to stop, else the given stage."""
        return "Stopping…" if self._scan is not None and self._scan.stopping else otherwise

    def _on_scan_yielded(self, items: tuple[Any, ...]) -> None:
        pieces: list[FinishedPiece] = []
        session = self.session
        for item in items:
            if isinstance(item, Stage):
                session.report(Activity(stage=self._stage(item.text), busy=True))
            elif isinstance(item, ScanStarted):
                self._on_scan_started(item)
            else:
                pieces.append(item)
        if not pieces:
            return
        for name in session.maps:
            session.write_cells(name, [(piece.cells, piece.values) for piece in pieces if piece.map == name])
        scanned = next(iter(session.maps), "")
        self._mpx += sum(piece.model_px for piece in pieces if piece.map == scanned) / 1e6
        self._report_progress(pieces[-1])
        self._lesions.on_cells_written()

    def _on_scan_started(self, started: ScanStarted) -> None:
        session = self.session
        own, *later = (one.whole() for one in started.maps)
        shown = session.heatmap
        if (
            shown is not None
            and shown.frame == own.frame
            and session.folder == started.folder
            and self.layers.heatmap is not None
        ):
            # The same map goes on: what is shown of it stays, with its lesions.
            own = shown
        # Maps of passes that this scan does not make go away: what is shown is what its results are read from.
        session.show_maps([own, *later], model_name=started.model_name, folder=started.folder, told=started.told)
        session.suggest_threshold(started.threshold)
        if session.tissue is None:
            session.show_tissue(started.tissue)
        self._began = time.monotonic()
        self._lesions.on_scan_started()
        stage = self._stage(f"Scanning with {started.engine}")
        session.report(Activity(stage=stage, busy=True, total=started.model_px))

    def _report_progress(self, last: FinishedPiece) -> None:
        seconds = max(time.monotonic() - self._began, 1e-3)
        self.session.report(
            Activity(
                stage=self._stage("Scanning"),
                busy=True,
                done=last.done,
                total=last.total,
                mpx_per_s=self._mpx / seconds,
                seconds_left=seconds / last.done * (last.total - last.done) if last.done else None,
            )
        )

    def _on_scan_succeeded(self, result: Any) -> None:
        self._scan = None
        stage = "Scan finished" if result.finished else "Scan stopped; the same scan goes on from here"
        self.session.report(Activity(stage=stage))
        self.layers.prefer_latest()
        self._lesions.start()

    def _on_scan_failed(self, error: BaseException) -> None:
        self._scan = None
        stopped = isinstance(error, ScanCancelledError)
        self.session.report(Activity(stage="Scan stopped before it began") if stopped else Activity(error=tell(error)))
        self._lesions.start()

    # -- tissue and earlier results ------------------------------------------------------------------------------

    def find_tissue(self) -> None:
        """Look for tissue beside the window; the session takes it."""

        def show(tissue: Any) -> None:
            if tissue is not None and not self.session.closed:
                self.session.show_tissue(tissue)
                self._look_at_colours(tissue)

        self._tissue = self._run(partial(tissue_work, self.session.slide), show, name="tissue")

    def _look_at_colours(self, tissue: TissueMask) -> None:
        """Say where red and blue look exchanged, before anything is scanned."""

        def show(note: Any) -> None:
            if not self.session.closed:
                self.session.show_colour_note(note)

        self._run(partial(swap_work, self.session.slide, tissue), show, name="colours")

    def load_earlier(self) -> None:
        """Show what an earlier scan of this slide left beside it."""

        def show(earlier: Any) -> None:
            session = self.session
            if earlier is None or session.closed or session.probabilities is not None:
                return
            session.show_maps(earlier.maps, model_name=earlier.model_name, folder=earlier.folder, told=earlier.told)
            session.suggest_threshold(earlier.threshold)
            self.layers.prefer_latest()
            if not self.busy:
                session.report(Activity(stage="This slide was scanned before: its result is shown"))
            self._lesions.start()

        self._run(partial(load_earlier_work, self.session.slide), show, name="earlier")

    def show_mined(self, path: Path) -> None:
        """Show where a training run mined patches on this slide, from its ``hard_negatives.csv``."""

        def show(mined: Any) -> None:
            if not self.session.closed:
                self.layers.show_mined(mined)

        self._run(partial(mined_work, path, self.session.slide.name), show, name="mined")

    def _run(self, work: Work, show: Any, *, name: str) -> Future[Any]:
        worker = Worker(work, name=name, parent=self)
        worker.succeeded.connect(show)
        worker.failed.connect(self._on_other_failed)
        worker.ended.connect(lambda: self._others.remove(worker))
        self._others.append(worker)
        return worker.start()

    def _on_other_failed(self, error: BaseException) -> None:
        line = tell(error)
        if not self.busy:
            self.session.report(Activity(error=line))

    # -- the end -------------------------------------------------------------------------------------------------

    def stop_work(self) -> None:
        """Ask all work to end soon, and to report nothing more; :meth:`close` follows."""
        for worker in (self._scan, *self._others):
            if worker is not None:
                worker.abandon()

    def close(self, *, wait: bool) -> None:
        """End all work, take the layers away, and close the slide once nobody reads it.

        Parameters
        ----------
        wait
            Whether the whole window closes: its layers then go with it, and this waits until the work has ended.
        """
        if self.session.closed:
            return
        self.session.closed = True
        workers = [one for one in (self._scan, self._lesions.stop(), *self._others) if one is not None]
        self._scan, self._others = None, []
        for worker in workers:
            worker.abandon()
        self.layers.close(remove=not wait)
        tiles = tiles_under_way(self._viewer)
        slide = self.session.slide

        def close_slide() -> None:
            for worker in workers:
                worker.wait(None)
            futures.wait(tiles)
            slide.close()

        closer = threading.Thread(target=close_slide, name="close-slide")
        closer.start()
        if wait:
            closer.join(_CLOSE_S)
