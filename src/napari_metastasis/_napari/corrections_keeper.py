"""Keeps the corrections of an open slide on the disk: read, saved after every change, put together with others'."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_metastasis._napari.corrections_work import Kept, last_save_work, look_work, open_work, save_work
from napari_metastasis._napari.reading_progress import ReadingProgress
from napari_metastasis._napari.slide_corrections import Saving
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import Work, Worker, explain, tell
from napari_metastasis.errors import AnnotationError, MetastasisError, StorageError
from napari_metastasis.storage import READ_ONLY

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Corrections, CorrectionStore

__all__ = ["CorrectionsKeeper"]

#: What the disk refused is tried again so often; and so often others' changes are looked for.
_AGAIN_MS, _LOOK_MS = 5000, 3000
#: How far the corrections are read is told so often.
_READING, _TELL_MS = "Reading corrections", 150
_KEPT = "Kept in memory, and tried again."
_RESCUED = "What could not be saved when this slide was closed last is back."


class CorrectionsKeeper(QObject):
    """Reads and writes the corrections of a session beside the window, one at a time; the newest state wins.

    Parameters
    ----------
    session
        The slide's session, whose corrections are kept where its results lie, or will lie.
    parent
        Qt parent.
    """

    #: What was said lies on the disk now.
    saved = Signal()

    def __init__(self, session: SlideSession, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._corrections = session, session.corrections
        self._store: CorrectionStore | None = None
        #: Of the results whose corrections are kept; ``None`` of a slide without.
        self._folder: Path | None = None
        self._worker: Worker | None = None
        #: What the disk is known to hold, or is being given.
        self._saved: Corrections | None = None
        self._failed = False
        self._wants_look = self._is_looking = False
        self._again = self._timer(_AGAIN_MS, self._try_again)
        self._again.setSingleShot(True)
        self._looks = self._timer(_LOOK_MS, self.look)
        self._reading = ReadingProgress()
        self._tells = self._timer(_TELL_MS, self._say_reading)
        self._soon = single_shot(self, 0, self._next)
        self._corrections.changed.connect(self._on_changed)
        session.maps_replaced.connect(self._next)
        session.looking_changed.connect(self._next)

    def _timer(self, milliseconds: int, then: Any) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(milliseconds)
        timer.timeout.connect(then)
        return timer

    @property
    def settled(self) -> bool:
        """Return whether all that was said lies on the disk."""
        at_rest = self._worker is None or self._is_looking
        return self._store is not None and at_rest and not self._is_unsaved and not self._is_elsewhere

    @property
    def _is_unsaved(self) -> bool:
        saved = self._saved
        return self._corrections.present is not saved and (
            bool(self._corrections.present) if saved is None else self._corrections.present.by_key != saved.by_key
        )

    @property
    def _is_elsewhere(self) -> bool:
        """Return whether a result is shown now whose corrections were not looked for."""
        return self._session.folder not in (None, self._folder)

    @property
    def failed(self) -> bool:
        """Return whether something was said that the disk does not take."""
        return self._is_unsaved and self._corrections.saving.kind == "failed"

    @property
    def path(self) -> Path | None:
        """Return the file; ``None`` before it is known."""
        return None if self._store is None else self._store.path

    def look(self) -> None:
        """Look whether another window or program changed the file."""
        self._wants_look = True
        self._next()

    def _on_changed(self) -> None:
        # What failed may work now: there may be less to write, or more room.
        self._failed = False
        self._say_saving()
        # Once the change is seen: to begin a thread takes longer than to draw it.
        self._soon.start()

    def _try_again(self) -> None:
        self._failed, self._wants_look = False, True
        self._next()

    # -- one thing at a time -------------------------------------------------------------------------------------

    def _next(self, *_: object) -> None:
        """Begin what is to be done next, unless something is being done."""
        session, store = self._session, self._store
        if self._worker is not None or self._failed or session.closed:
            return
        mine = self._corrections.present
        if store is not None and self._is_unsaved:
            self._begin(partial(save_work, store, mine, slide=session.slide), mine, then=self.saved.emit)
        elif not session.looking and (store is None or self._is_elsewhere):
            self._folder = session.folder
            if not self._is_unsaved:
                self._corrections.say_saving(Saving("saving", _READING + "…"))
                self._tells.start()
            self._reading = ReadingProgress()
            work = partial(open_work, session.slide, session.folder, store, progress=self._reading)
            self._begin(work, mine)
        elif store is not None and self._wants_look:
            self._wants_look, self._is_looking = False, True
            self._begin(partial(look_work, store), mine)

    def _begin(self, work: Work, mine: Corrections, then: Callable[[], None] | None = None) -> None:
        worker = Worker(work, name="corrections", parent=self, urgent=True)
        worker.succeeded.connect(partial(self._on_kept, mine))
        worker.failed.connect(self._on_failed)
        worker.ended.connect(self._on_ended)
        if then is not None:
            worker.succeeded.connect(lambda _: then())
        self._worker = worker
        worker.start()

    def _on_kept(self, mine: Corrections, kept: Kept) -> None:
        """Take what lies on the disk; what was said meanwhile is said on top of it."""
        from napari_metastasis.annotations import Corrections

        before, self._store = self._store, kept.store
        present = self._corrections.present
        if before is None:
            together = present.merged(kept.corrections, Corrections())[0] if present else kept.corrections
            if kept.rescued is not None:
                together = kept.rescued.merged(together, Corrections())[0]
                self._corrections.say_note(_RESCUED)
            self._corrections.take(together)
        elif before is not kept.store:
            # Another result, with corrections of its own; where it has none, those of the slide go with it.
            if kept.held:
                self._corrections.begin_with(present.merged(kept.corrections, mine)[0])
        elif kept.by_others:
            # What was looked through beside the window is taken as it is, unless something was said meanwhile.
            same = present is mine
            together, disputed = (kept.corrections, ()) if same else present.merged(kept.corrections, mine)
            self._corrections.take(together)
            self._corrections.say_note(_merged_text(len({*disputed, *kept.disputed})))
        present = self._corrections.present
        self._saved = present if present.by_key == kept.corrections.by_key else kept.corrections

    def _on_failed(self, error: BaseException) -> None:
        self._failed = True
        self._corrections.say_saving(Saving("failed", _failure_text(error)))
        if not isinstance(error, MetastasisError):
            tell(error)

    def _say_reading(self) -> None:
        """Say how far the corrections are read; a file of thousands of outlines takes seconds."""
        if self._corrections.saving.text.startswith(_READING):
            self._corrections.say_saving(Saving("saving", self._reading.text(_READING)))

    def _on_ended(self) -> None:
        self._tells.stop()
        self._worker, self._is_looking = None, False
        if self._failed:
            self._again.start()
        else:
            self._say_saving()
        if not self._looks.isActive():
            self._looks.start()
        self._next()

    def _say_saving(self) -> None:
        """Say how saving goes; what failed is said until it works again."""
        said = self._corrections.saving.kind
        if not self._is_unsaved:
            is_touched = self._corrections.present or self._corrections.undo_text or self._corrections.redo_text
            self._corrections.say_saving(Saving("saved", "Saved") if is_touched else Saving())
        elif said != "failed":
            self._corrections.say_saving(Saving("saving", "Saving…"))

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> tuple[Worker | None, Work | None]:
        """Begin nothing more; return the worker that is still at it, and the work that is left after it."""
        self._again.stop()
        self._looks.stop()
        self._tells.stop()
        self._soon.stop()
        self._corrections.changed.disconnect(self._on_changed, missing_ok=True)
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.let_go()
        if not self._is_unsaved:
            return worker, None
        session, mine = self._session, self._corrections.present
        return worker, partial(last_save_work, self._store, mine, slide=session.slide, folder=session.folder)


def _failure_text(error: BaseException) -> str:
    """Return why nothing can be saved now, and what becomes of what was said."""
    code = error.errno if isinstance(error, StorageError) else None
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"Not saved: the disk is full. {_KEPT}"
    if code in READ_ONLY:
        return f"Not saved: nothing may be written into the folder of the results. {_KEPT}"
    if isinstance(error, AnnotationError):
        return f"Not saved: the file of corrections cannot be read, and is left as it is. {explain(error)} {_KEPT}"
    return f"Not saved. {explain(error)} {_KEPT}"


def _merged_text(disputed: int) -> str:
    """Return what is said where another window or program changed the file."""
    if not disputed:
        return "Changed in another window, too: both are put together."
    places = "the same place" if disputed == 1 else f"the same {disputed} places"
    return (
        f"Changed in another window, too: both are put together. Both had changed {places}; what was said last stands "
        "there, and the other is kept among the backups."
    )
