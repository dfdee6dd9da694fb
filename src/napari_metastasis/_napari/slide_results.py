"""The stored results of one slide: the latest is shown, others are listed, one is marked as reviewed and reported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_metastasis._napari.session import Activity, SlideSession
from napari_metastasis._napari.slide_work import (
    OnDisk,
    earlier_results_work,
    earlier_tissue_work,
    load_earlier_work,
    load_result_work,
    read_review_work,
    report_work,
    write_review_work,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_metastasis._napari.lesion_search import LesionSearch
    from napari_metastasis._napari.mitosis_search import MitosisSearch
    from napari_metastasis._napari.shown_files import ShownFiles
    from napari_metastasis._napari.slide_layers import SlideLayers
    from napari_metastasis._napari.worker import Workers
    from napari_metastasis.slides import TissueMask
    from napari_metastasis.workflows.scan import EarlierResult, EarlierScan

__all__ = ["SlideResults"]

#: How often a report that was asked for looks whether the files are those of what is shown.
_REPORT_POLL_MS = 50


class SlideResults(QObject):
    """What lies beside one open slide.

    Parameters
    ----------
    session
        The slide's session.
    layers
        Its layers.
    lesions
        Searches its lesions.
    files
        Keeps the files of what is shown.
    mitoses
        Reads its mitoses.
    workers
        Does the work beside the window.
    is_busy
        Returns whether a scan is being prepared or running: then nothing else is shown.
    parent
        Qt parent.

    Attributes
    ----------
    earlier
        Every stored scan of the slide, the last written first, as far as they are known.
    usual_tissue
        The tissue as it is found with the default settings; ``None`` before that.
    """

    #: The list of earlier scans is another one.
    earlier_changed = Signal()

    def __init__(
        self,
        session: SlideSession,
        layers: SlideLayers,
        lesions: LesionSearch,
        files: ShownFiles,
        mitoses: MitosisSearch,
        workers: Workers,
        *,
        is_busy: Callable[[], bool],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.session = session
        self._layers, self._lesions, self._files, self._mitoses = layers, lesions, files, mitoses
        self._workers, self._is_busy = workers, is_busy
        self.earlier: tuple[EarlierScan, ...] = ()
        self.usual_tissue: TissueMask | None = None
        self._shown_earlier: EarlierScan | None = None
        self._wanted: EarlierScan | None = None
        self._then_report: Callable[[Path], None] | None = None
        self._report_soon = QTimer(self)
        self._report_soon.setInterval(_REPORT_POLL_MS)
        self._report_soon.timeout.connect(self._on_report_soon)
        session.coverage_changed.connect(self._tell_of_earlier)
        # The list says what each was last shown with.
        files.written.connect(self.list_all)

    def leave(self) -> None:
        """Show an earlier result no longer: a scan begins."""
        self._shown_earlier = None
        self.session.origin, self.session.made_with = "", {}

    def load(self) -> None:
        """Show what the latest scan of this slide left beside it, and list the others."""
        session = self.session

        def show(earlier: Any) -> None:
            if session.closed:
                return
            if earlier is not None and session.probabilities is None:
                chosen = session.threshold if session.threshold_chosen else None
                self._show_result(earlier)
                if chosen is not None:
                    session.set_threshold(chosen)
            elif not self._is_busy():
                session.report(Activity())
            self.list_all()

        session.look(looking=True)
        session.report(Activity(stage="Looking for an earlier result…"))
        # A person waits for it: nothing else can be said of the slide before.
        worker = self._workers.make(partial(load_earlier_work, session.slide), show, name="earlier", urgent=True)
        worker.ended.connect(partial(session.look, looking=False))
        worker.start()

    def show(self, scan: EarlierScan) -> None:
        """Show one of the earlier scans as it was left; nothing happens while a scan is running.

        Parameters
        ----------
        scan
            One of :attr:`earlier`.
        """
        if self._is_busy() or self.session.closed:
            return

        def show(earlier: Any) -> None:
            if self._wanted is scan and not self._is_busy() and not self.session.closed:
                self._show_result(earlier)

        # What is shown of the other one is kept first.
        self.session.follow_threshold()
        self._files.write()
        self._wanted = scan
        self.session.report(Activity(stage="Reading the earlier result…"))
        self._workers.run(partial(load_result_work, self.session.slide, scan), show, name="earlier", urgent=True)

    def show_loaded(self, earlier: EarlierResult) -> None:
        """Show an earlier result that was read already; nothing happens while a scan is running."""
        if not self._is_busy() and not self.session.closed:
            # What is shown of the other one is kept first.
            self.session.follow_threshold()
            self._files.write()
            self._wanted = None
            self._show_result(earlier)

    def _show_result(self, earlier: EarlierResult) -> None:
        session = self.session
        self._files.leave()
        session.origin = earlier.scan.origin
        session.made_with = {**earlier.options, **earlier.scan.identity}
        # Where only mitoses were looked for, there is nothing to show of metastases.
        sought = earlier.mitoses is not None or bool(earlier.mitoses_lost)
        only_mitoses = sought and np.isnan(earlier.maps[0].values).all()
        session.show_maps(
            () if only_mitoses else earlier.maps,
            model_name=earlier.model_name,
            folder=earlier.folder,
            told=earlier.told,
            shares=earlier.shown.shares,
            read_from=earlier.shown.map,
        )
        self._show_mitoses(earlier)
        session.own_thresholds = earlier.own_thresholds
        session.restore_threshold(earlier.threshold, own=earlier.own_threshold)
        self.read_review(earlier.folder)
        left = self._files.as_shown(OnDisk(earlier.folder, earlier.journals))
        self._layers.prefer_latest()
        self._shown_earlier = None if self._is_busy() else earlier.scan
        self._tell_of_earlier()
        self._lesions.start()

        def show_tissue(tissue: Any) -> None:
            if session.closed or self._shown_earlier is not earlier.scan:
                return
            tissue = self.usual_tissue if tissue is None else tissue
            if tissue is not None and tissue is not session.tissue:
                session.show_tissue(tissue)
            # What the edge of what was scanned cuts is written too: before, it would be that of other tissue.
            self._files.follow(left)

        work = partial(earlier_tissue_work, session.slide, earlier.folder)
        self._workers.run(work, show_tissue, name="earlier-tissue")

    def _show_mitoses(self, earlier: EarlierResult) -> None:
        """Show the mitoses of an earlier result as they were left."""
        stored, state = earlier.mitoses, self.session.mitoses
        left = self._mitoses.leave()
        if left is not None:
            self._workers.run(left, lambda _: None, name="mitosis-files")
        if stored is None:
            state.show_none(earlier.mitoses_lost)
        else:
            state.show_map(
                stored.map, threshold=stored.threshold, settings=stored.settings, model_name=stored.model_name
            )
            self._mitoses.follow(stored.source, stored.threshold)

    def _tell_of_earlier(self) -> None:
        """Say that an earlier result is shown, and of how much of the tissue, as soon as that is known."""
        session, scan = self.session, self._shown_earlier
        if scan is not None and not session.activity.error:
            told = scan.summary if session.coverage is None else f"{scan.origin}. {session.coverage.sentence}"
            session.report(Activity(stage=told))

    def list_all(self) -> None:
        """Look for every stored scan of the slide."""

        def show(scans: Any) -> None:
            if scans != self.earlier and not self.session.closed:
                self.earlier = scans
                self.earlier_changed.emit()

        self._workers.run(partial(earlier_results_work, self.session.slide), show, name="earlier")

    def mark_reviewed(self, reviewed: bool) -> None:
        """Keep beside the result that a person has looked through what is shown, or has not."""
        session = self.session
        if session.folder is None or session.found is None or session.coverage is None or session.closed:
            return
        mark = None
        if reviewed:
            # Imported by now: without the core there is no result.
            from napari_metastasis.workflows.scan import ReviewMark

            mark = ReviewMark(
                threshold=session.threshold,
                answered_cells=session.coverage.answered_cells,
                findings=len(session.found.rows),
            )
        work = partial(write_review_work, session.folder, mark)
        self._workers.run(work, self._show_review(session.folder), name="review")

    def read_review(self, folder: Path) -> None:
        self._workers.run(partial(read_review_work, folder), self._show_review(folder), name="review")

    def _show_review(self, folder: Path) -> Callable[[Any], None]:
        def show(mark: Any) -> None:
            if not self.session.closed and self.session.folder == folder:
                self.session.show_review(mark)

        return show

    def write_report(self, then: Callable[[Path], None]) -> None:
        """Write the report of what is shown beside the window; nothing happens while a scan is running.

        Parameters
        ----------
        then
            Takes where it lies.
        """
        if self.session.folder is None or self._is_busy() or self.session.closed:
            return
        self.session.report(Activity(stage="Writing the report…"))
        # It is made from the files, which follow the screen.
        self._files.write()
        self._mitoses.write()
        self._then_report = then
        self._report_soon.start()

    def _on_report_soon(self) -> None:
        folder, then = self.session.folder, self._then_report
        settled = self._files.settled and self._mitoses.settled
        if not settled and not self._is_busy() and not self.session.closed:
            return
        self._report_soon.stop()
        if folder is None or then is None or self._is_busy() or self.session.closed:
            return

        def show(path: Path) -> None:
            if not self.session.closed:
                self.session.report(Activity(stage=f"The report lies in {path}"))
                then(path)

        self._workers.run(partial(report_work, self.session.slide, folder), show, name="report")
