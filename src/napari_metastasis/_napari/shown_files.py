"""Lets the files of a result follow the screen: what is shown is written once the sliders rest."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.slide_work import (
    OnDisk,
    Seen,
    search_and_write_work,
    write_left_work,
    write_said_work,
    write_shown_work,
)
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import Work, Worker, explain

if TYPE_CHECKING:
    from napari_metastasis._napari.lesion_search import LesionSearch
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.workflows.scan import Shown

__all__ = ["ShownFiles"]

#: Files are written once threshold and shares rest for so long.
_REST_MS = 800


class ShownFiles(QObject):
    """Writes the files of a session's result anew, beside the window, when its findings change.

    Parameters
    ----------
    session
        The slide's session.
    lesions
        Searches its lesions.
    parent
        Qt parent.
    """

    #: The exception that ended writing; told once, until it succeeds again.
    failed = Signal(object)
    #: The files were written anew.
    written = Signal()

    def __init__(self, session: SlideSession, lesions: LesionSearch, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._lesions = session, lesions
        self._on_disk: OnDisk | None = None
        self._worker: Worker | None = None
        self._writing: Shown | None = None
        #: Whether something was said of the findings that the tables do not say.
        self._is_behind = False
        self._told = ""
        self._scanning = False
        self._rest = single_shot(self, _REST_MS, self.write)
        session.found_changed.connect(self._on_changed)
        session.threshold_changed.connect(self._on_changed)
        session.share_changed.connect(self._on_changed)

    @property
    def pending(self) -> bool:
        """Return whether what is shown is still to be written, or being written."""
        return self._worker is not None or self._unwritten() is not None or self._tables_lag

    @property
    def _tables_lag(self) -> bool:
        on_disk = self._on_disk
        return self._is_behind and on_disk is not None and self._session.folder == on_disk.folder

    @property
    def settled(self) -> bool:
        """Return whether the files are as they will stay: as shown, or as they were where they cannot be written."""
        # Where the tissue cannot be found, it is never known what the edge of the scan cuts, and nothing is written.
        without_tissue = self._session.tissue is None and not self._lesions.awaits_tissue
        return bool(self._told) or without_tissue or not self.pending

    def follow(self, on_disk: OnDisk) -> None:
        """Keep the files of a result as its findings are shown from now on."""
        self._on_disk, self._told, self._scanning = on_disk, "", False
        self._on_changed()

    def as_shown(self, on_disk: OnDisk) -> OnDisk:
        """Return a folder as if its files showed what the window does: what is only opened stays as it is."""
        return replace(on_disk, shown=self._shown())

    def hold(self) -> None:
        """Write nothing for now: a scan begins, and will write the files itself."""
        self._rest.stop()
        if self._worker is not None:
            self._worker.abandon()
            self._worker = None
            # It may have written them or not.
            self._on_disk = None if self._on_disk is None else replace(self._on_disk, shown=None)

    def leave(self) -> None:
        """Write nothing until :meth:`follow`: another result is shown. What is being written is finished."""
        self._rest.stop()
        self._on_disk = None

    def forget(self) -> None:
        """Write nothing until :meth:`follow`: the maps are changing."""
        self.hold()
        self._on_disk, self._told, self._scanning = None, "", True

    def follow_review(self) -> None:
        """Let the tables say what was said of the findings; that lies on the disk by now."""
        self._is_behind = True
        self._on_changed()

    def resume(self) -> None:
        """Go on where :meth:`hold` stopped: the scan failed."""
        self._scanning = False
        self._on_changed()

    def _on_changed(self, *_: object) -> None:
        if self._on_disk is not None and not self._session.closed:
            self._rest.start()

    def _shown(self) -> Shown | None:
        """Return what is shown; ``None`` where there is no map."""
        session = self._session
        own = session.heatmap
        if own is None:
            return None
        # Imported by now: without the core there is no map.
        from napari_metastasis.scanning import read_from
        from napari_metastasis.workflows.scan import Shown

        later = [(one, session.share_of(one.kind.name)) for one in session.later_maps]
        read = session.read_map
        blended = [(one, share) for one, share in later if not one.kind.stands_alone]
        name = read.kind.name if read is not None and read.kind.stands_alone else read_from(own, blended)
        return Shown(session.threshold, {one.kind.name: share for one, share in later}, name)

    def _unwritten(self) -> Shown | None:
        """Return what is to be written; ``None`` where the files are as they should be, or nothing is known of them."""
        if self._on_disk is None or self._session.folder != self._on_disk.folder:
            return None
        shown = self._shown()
        return None if shown == self._on_disk.shown else shown

    def _is_found(self, shown: Shown) -> bool:
        """Return whether the findings of the session are those of what is shown."""
        found = self._session.found
        return (
            found is not None
            and self._session.coverage is not None
            and found.threshold == shown.threshold
            and self._lesions.shares == shown.shares
            and not self._lesions.running
        )

    def write(self) -> None:
        """Write the files of what is shown, unless they are as they should be, or its lesions are not known yet."""
        self._rest.stop()
        on_disk, shown = self._on_disk, self._unwritten()
        if self._worker is not None or on_disk is None or (shown is None and not self._tables_lag):
            return
        if shown is not None and not self._is_found(shown):
            # The end of the worker, or of the search for lesions, comes back here.
            return
        # Those of other settings have tables of what was said, too.
        work = partial(write_said_work, on_disk.folder) if shown is None else self._work(on_disk, shown)
        worker, self._is_behind = Worker(work, name="files", parent=self), shown is not None and self._is_behind

        def on_written(written: Any) -> None:
            self._told = ""
            if written and shown is not None and self._on_disk is on_disk:
                self._on_disk = replace(on_disk, shown=shown)
            if written:
                self.written.emit()

        worker.succeeded.connect(on_written)
        worker.failed.connect(self._on_failed)
        worker.ended.connect(self._on_ended)
        self._worker, self._writing = worker, shown
        worker.start()

    def _work(self, on_disk: OnDisk, shown: Shown) -> Work:
        session = self._session
        assert session.found is not None
        assert session.coverage is not None
        assert session.tissue is not None
        assert session.read_map is not None
        seen = Seen(session.found, shown, session.coverage, session.tissue.fraction, session.read_map)
        return partial(write_shown_work, session.slide, seen, on_disk)

    def _on_failed(self, error: BaseException) -> None:
        line = explain(error)
        if line != self._told:
            self._told = line
            self.failed.emit(error)

    def _on_ended(self) -> None:
        self._worker = None
        # The slider may have moved on meanwhile; what could not be written waits until it does.
        if not self._told:
            self._on_changed()

    def close(self, *, is_behind: bool) -> tuple[Worker | None, Work | None]:
        """Write no more; return the worker that is still at it, and the work that is left after it and the scan.

        Parameters
        ----------
        is_behind
            Whether something was said of the findings, which is saved first.
        """
        self._rest.stop()
        self._is_behind |= is_behind
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.let_go()
        session, on_disk, shown = self._session, self._on_disk, self._unwritten()
        folder, tissue, own = session.folder, session.tissue, session.unchosen_thresholds
        if folder is None or tissue is None or self._told:
            return worker, None
        if self._scanning and (left := self._shown()) is not None:
            # The scan writes the files at its end, which is now, as they were shown when it began.
            return worker, partial(write_left_work, session.slide, folder, left, session.detection, tissue, own)
        if on_disk is not None and shown is None and self._tables_lag:
            return worker, partial(write_said_work, on_disk.folder)
        if on_disk is None or shown is None:
            return worker, None
        if worker is not None and shown == self._writing:
            # It may have read what was said before the last of it was.
            return worker, partial(write_said_work, on_disk.folder) if self._tables_lag else None
        if self._is_found(shown):
            return worker, self._work(on_disk, shown)
        maps = tuple(session.maps.values())
        work = partial(search_and_write_work, session.slide, maps, shown, session.detection, tissue, own, on_disk)
        return worker, work
