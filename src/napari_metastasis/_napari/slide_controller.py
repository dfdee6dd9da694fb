"""One open slide in one window: its session, its layers, and the work that is done for it."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.comparison import Comparison
from napari_metastasis._napari.compat import tiles_under_way
from napari_metastasis._napari.corrections_keeper import CorrectionsKeeper
from napari_metastasis._napari.finding_count import FindingCount
from napari_metastasis._napari.lesion_reviews import LesionReviews
from napari_metastasis._napari.lesion_search import LesionSearch
from napari_metastasis._napari.mitosis_map import MitosisMap
from napari_metastasis._napari.mitosis_search import MitosisSearch
from napari_metastasis._napari.overview_work import thumbnail_work
from napari_metastasis._napari.reading_ahead import ReadingAhead
from napari_metastasis._napari.session import Activity, SlideSession
from napari_metastasis._napari.shown_files import ShownFiles
from napari_metastasis._napari.slide_layers import SlideLayers
from napari_metastasis._napari.slide_results import SlideResults
from napari_metastasis._napari.slide_work import (
    OnDisk,
    ScanBegun,
    mined_work,
    scan_work,
    swap_work,
    tissue_work,
)
from napari_metastasis._napari.stained_layer import StainedLayer
from napari_metastasis._napari.worker import Work, Worker, Workers, tell
from napari_metastasis.errors import MetastasisError, ScanCancelledError
from napari_metastasis.geometry import Region
from napari_metastasis.settings import MitosisSettings, TissueSettings
from napari_metastasis.workflows.scan_job import AtHand, ScanJob, ScanStarted, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis._napari.view_state import ViewState
    from napari_metastasis.scanning import FinishedPiece
    from napari_metastasis.slides import TissueMask
    from napari_metastasis.workflows.engine_cache import EngineCache

__all__ = ["SlideController"]

#: How long closing the window waits for a scan: one piece of it, and the results.
_CLOSE_S = 20.0
#: The map that mitoses are read from: the core is not imported yet.
_MITOSES = "mitoses"


def _never() -> bool:
    return False


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

    Attributes
    ----------
    session
        The slide's session.
    layers
        Its layers.
    stained
        Shows its dyes.
    mitosis_map
        Shows where a mitosis is how probable.
    mitoses
        Reads its mitoses, and keeps their files as shown.
    results
        What is stored of it.
    corrections
        Keeps on the disk what a person says of it.
    reviews
        Finds out of which lesions that speaks.
    comparison
        Shows what two models make of it.
    ahead
        Reads what will be looked at next.
    """

    #: Something failed: one line. The session's activity says it as well, unless a scan is running.
    failed = Signal(str)
    #: A scan ended: its ScanResult, or ``None`` where it failed or was stopped before it began.
    scanned = Signal(object)

    def __init__(
        self, viewer: Viewer, session: SlideSession, layer: Layer, engines: EngineCache, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.session = session
        #: Where the window looked on this slide last; ``None`` before it was shown.
        self.view: ViewState | None = None
        self._engines = engines
        self._tissue: Future[TissueMask | None] | None = None
        self.layers = SlideLayers(viewer, session, layer)
        self.layers.heatmap_removed.connect(self.cancel)
        self._viewer = viewer
        self._scan: Worker | None = None
        self._job: ScanJob | None = None
        #: Threshold of mitoses that the scan writes its files with; 0 without them.
        self._began_at = 0.0
        self._workers = Workers(self)
        self._workers.failed.connect(self._on_other_failed)
        self.stained = StainedLayer(session, self.layers, self._workers, self)
        self.mitosis_map = MitosisMap(session, self.layers, self)
        self._began = 0.0
        self._mpx = 0.0
        self._lesions = LesionSearch(session, self)
        self._lesions.failed.connect(self._on_other_failed)
        self._files = ShownFiles(session, self._lesions, self)
        self._files.failed.connect(self._on_other_failed)
        self.mitoses = MitosisSearch(session, self)
        self.mitoses.failed.connect(self._on_other_failed)
        self.corrections = CorrectionsKeeper(session, self)
        self.corrections.saved.connect(self._files.follow_review)
        self.ahead = ReadingAhead(self)
        self.reviews = LesionReviews(session, self)
        self.reviews.failed.connect(self._on_other_failed)
        self._count = FindingCount(session, self.reviews, self)
        self._count.failed.connect(self._on_other_failed)
        self.results = SlideResults(
            session,
            self.layers,
            self._lesions,
            self._files,
            self.mitoses,
            self._workers,
            is_busy=lambda: self.busy,
            parent=self,
        )
        self.comparison = Comparison(self, self._workers)

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
        self.results.leave()
        self._files.hold()
        self.session.report(Activity(stage="Starting…", busy=True))
        known = self._tissue if job.tissue == TissueSettings() else None
        at_hand = AtHand(slide=self.session.slide, engines=self._engines, tissue=known)
        worker = Worker(partial(scan_work, job, at_hand), name="scan", parent=self)
        worker.yielded.connect(self._on_scan_yielded)
        worker.succeeded.connect(self._on_scan_succeeded)
        worker.failed.connect(self._on_scan_failed)
        self._scan, self._job = worker, job
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
            elif isinstance(item, ScanBegun):
                self._on_scan_begun(item)
            elif isinstance(item, OnDisk):
                self._files.follow(item)
                self._follow_mitoses(item)
            else:
                pieces.append(item)
        if not pieces:
            return
        session.mitoses.write_cells([(piece.cells, piece.values) for piece in pieces if piece.map == _MITOSES])
        for name in session.maps:
            session.write_cells(name, [(piece.cells, piece.values) for piece in pieces if piece.map == name])
        scanned = next(iter(session.maps), "")
        self._mpx += sum(piece.model_px for piece in pieces if piece.map == scanned) / 1e6
        self._report_progress(pieces[-1])
        if self._reads_lesions:
            self._lesions.on_cells_written()

    def _follow_mitoses(self, on_disk: OnDisk) -> None:
        """Keep the files of the mitoses that a scan wrote as they are shown from now on."""
        if on_disk.mitoses is not None and self._began_at:
            self.mitoses.follow(on_disk.mitoses, self._began_at)

    def _write_left(self, left: Work | None) -> None:
        """Write beside the window what is left of a result that is no longer shown."""
        if left is not None:
            self._workers.run(left, lambda _: None, name="mitosis-files")

    @property
    def _reads_lesions(self) -> bool:
        """Return whether the scan finds lesions: else they stay as they are."""
        return self._job is None or self._job.reads_lesions

    def _on_scan_begun(self, begun: ScanBegun) -> None:
        session, started, job = self.session, begun.started, self._job
        if session.tissue is not started.tissue:
            session.show_tissue(started.tissue)
        if self._reads_lesions or session.folder != started.folder:
            self._show_begun(begun)
        self._show_mitoses_begun(started, job)
        self._began = time.monotonic()
        stage = self._stage(f"Scanning with {started.engine}" if self._reads_lesions else "Looking for mitoses")
        session.report(Activity(stage=stage, busy=True, total=started.model_px))

    def _show_mitoses_begun(self, started: ScanStarted, job: ScanJob | None) -> None:
        """Show the mitoses that earlier scans found; where this one looks for none, those that are shown stay."""
        state = self.session.mitoses
        settings = None if job is None else job.settings_of(MitosisSettings)
        self._began_at = started.mitosis_threshold
        if started.mitoses is not None and settings is not None:
            self.mitoses.hold()
            state.show_map(
                started.mitoses,
                threshold=started.mitosis_threshold,
                settings=settings,
                model_name=started.mitosis_model,
            )

    def _show_begun(self, begun: ScanBegun) -> None:
        """Show the maps of a scan that begins."""
        session, started = self.session, begun.started
        session.origin = ""
        self._files.forget()
        own, *later = begun.maps
        if not self._reads_lesions and np.isnan(own.values).all():
            # Nobody looked for metastases, and nothing is shown of them.
            session.show_maps((), model_name="", folder=started.folder, told=started.told)
            return
        if session.folder != started.folder:
            # Of another result.
            self._write_left(self.mitoses.leave())
            session.mitoses.show_none()
        shown = session.heatmap
        if (
            shown is not None
            and shown.frame == own.frame
            and session.folder == started.folder
            and self.layers.heatmap is not None
        ):
            # The same map goes on: what is shown of it stays, with its lesions; another window may have added to it.
            if np.count_nonzero(~np.isnan(own.values)) > np.count_nonzero(~np.isnan(shown.values)):
                session.write_cells(own.kind.name, [(Region.of(own.frame.cells), own.values)])
            own = shown
        # Maps of passes that this scan does not make go away: what is shown is what its results are read from.
        session.show_maps([own, *later], model_name=started.model_name, folder=started.folder, told=started.told)
        session.own_thresholds = started.own_thresholds
        session.suggest_threshold(started.threshold)
        self._lesions.on_scan_started()

    def _report_progress(self, last: FinishedPiece) -> None:
        if self._scan is not None and self._scan.stopping:
            self.session.report(Activity(stage=self._stage(""), busy=True, done=last.done, total=last.total))
            return
        seconds = max(time.monotonic() - self._began, 1e-3)
        # Such a map is made once all is scanned; rates are those of the scan.
        outlining = last.map in self.session.maps and self.session.maps[last.map].kind.stands_alone
        counting = last.map == _MITOSES
        self.session.report(
            Activity(
                stage="Looking for mitoses" if counting else "Outlining the tumour" if outlining else "Scanning",
                busy=True,
                done=last.done,
                total=last.total,
                mpx_per_s=0.0 if outlining or counting else self._mpx / seconds,
                seconds_left=seconds / last.done * (last.total - last.done) if last.done else None,
                outlining=outlining,
            )
        )

    def _on_scan_succeeded(self, result: Any) -> None:
        self._scan = None
        if result.mitoses is not None:
            self.mitoses.start()
        if not self._reads_lesions:
            self._on_mitoses_succeeded(result)
            return
        # Lesions are searched again below, but nobody shall read the coverage of a while ago until then.
        self.session.tell_more(result.partly)
        self.session.show_coverage(result.coverage, self.session.tissue_cells)
        stopped = "" if result.finished else ". Stopped: the same scan goes on from here"
        self.session.report(Activity(stage=f"{result.coverage.sentence}{stopped}"))
        self.layers.prefer_latest()
        self._lesions.start()
        self.results.read_review(result.output)
        self.results.list_all()
        self.scanned.emit(result)

    def _on_mitoses_succeeded(self, result: Any) -> None:
        """Say what was found where only mitoses were looked for."""
        stopped = "" if result.finished else ". Stopped: the same search goes on from here"
        self.session.report(Activity(stage=f"{result.mitoses.text}. {result.mitoses.searched_text}{stopped}"))
        self.results.list_all()
        self.scanned.emit(result)

    def _on_scan_failed(self, error: BaseException) -> None:
        self._scan = None
        stopped = isinstance(error, ScanCancelledError)
        if stopped:
            self.session.report(Activity(stage="Scan stopped before it began"))
        else:
            self._on_other_failed(error)
        self._lesions.start()
        self._files.resume()
        self.mitoses.resume()
        self.scanned.emit(None)

    # -- what is looked for beside the window --------------------------------------------------------------------

    def find_tissue(self) -> None:
        """Look for tissue beside the window; the session takes it."""

        def show(tissue: Any) -> None:
            if tissue is not None and not self.session.closed:
                self.results.usual_tissue = tissue
                if self.session.tissue is None:  # else it is that of an earlier result, or of a scan
                    self.session.show_tissue(tissue)
                self._look_at_colours(tissue)

        def end() -> None:
            self._lesions.awaits_tissue = False
            if self.session.tissue is None:
                self._lesions.start()

        self._lesions.awaits_tissue = True
        self._tissue = self._workers.run(partial(tissue_work, self.session.slide), show, name="tissue", end=end)

    def _look_at_colours(self, tissue: TissueMask) -> None:
        """Say where red and blue look exchanged, before anything is scanned."""

        def show(note: Any) -> None:
            if not self.session.closed:
                self.session.show_colour_note(note)

        self._workers.run(partial(swap_work, self.session.slide, tissue), show, name="colours")

    def make_thumbnail(self) -> None:
        """Make the small picture of the slide beside the window; the session takes it."""

        def show(picture: Any) -> None:
            if not self.session.closed:
                self.session.show_thumbnail(picture)

        self._workers.run(partial(thumbnail_work, self.session.slide), show, name="thumbnail", urgent=True)

    def show_mined(self, path: Path) -> None:
        """Show where a training run mined patches on this slide, from its ``hard_negatives.csv``."""

        def say(stage: str) -> None:
            if not self.busy:
                self.session.report(Activity(stage=stage))

        def show(mined: Any) -> None:
            if not self.session.closed:
                self.layers.show_mined(mined)
                say(f"{len(mined)} mined place{'' if len(mined) == 1 else 's'}, as squares on the slide")

        say("Reading the mined places…")
        self._workers.run(partial(mined_work, path, self.session.slide.name), show, name="mined")

    def _on_other_failed(self, error: BaseException) -> None:
        line = tell(error)
        if not self.busy:
            self.session.report(Activity(error=line))
        self.failed.emit(line)

    # -- the end -------------------------------------------------------------------------------------------------

    def stop_work(self) -> None:
        """Ask all work to end soon, and to report nothing more; :meth:`close` follows."""
        for worker in (self._scan, *self._workers.running):
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
        keeper, unsaved = self.corrections.close()
        readers, uncounted = self.mitoses.close()
        writer, unwritten = self._files.close(is_behind=keeper is not None or unsaved is not None)
        self.session.closed = True
        workers = [
            one
            for one in (
                self._scan,
                self._lesions.stop(),
                self.reviews.stop(),
                self._count.stop(),
                self.mitosis_map.close(),
                *self._workers.running,
            )
            if one is not None
        ]
        self._scan = None
        for worker in workers:
            worker.abandon()
        workers += [one for one in (*readers, writer, keeper) if one is not None]
        self.layers.close(remove=not wait)
        tiles = tiles_under_way(self._viewer)
        slide = self.session.slide

        def close_slide() -> None:
            for worker in workers:
                worker.wait(None)
            # What is shown is kept; nobody is left to be told that a disk refuses.
            for left in (unsaved, unwritten, uncounted):
                if left is not None:
                    with suppress(MetastasisError):
                        left(_never)
            futures.wait(tiles)
            slide.close()

        closer = threading.Thread(target=close_slide, name="close-slide")
        closer.start()
        if wait:
            closer.join(_CLOSE_S)
