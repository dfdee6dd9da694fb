"""The retraining of a window: begun in a process of its own, followed, and decided on. It outlives the window."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_metastasis._napari.retrain_work import (
    begin_work,
    discard_work,
    follow_work,
    go_on_work,
    keep_work,
    runs_work,
)
from napari_metastasis._napari.worker import Work, Worker, Workers, tell

if TYPE_CHECKING:
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis.models import ZooEntry
    from napari_metastasis.workflows.retrain import Run

__all__ = ["Retrainer"]

#: How often it is looked whether corrections are saved.
_SAVED_MS = 50
#: As :mod:`napari_metastasis.workflows.retrain` names the files, which is imported beside the window.
_STOP, _CANCEL = "stop", "cancel"


class Retrainer(QObject):
    """Begins retrainings, one at a time, and tells how the present one goes.

    Parameters
    ----------
    parent
        Qt parent.

    Attributes
    ----------
    run
        What is at work, or waits to be decided on; ``None`` where there is nothing.
    kept
        The model that was kept last, and the name of the one it was made from; ``None`` before.
    waits_for
        What has to be done before it begins, in a few words; empty where nothing has.
    """

    #: How far it is, or what came out.
    changed = Signal()
    #: Something failed: one line.
    failed = Signal(str)
    #: A model was kept.
    model_kept = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.run: Run | None = None
        self.kept: tuple[ZooEntry, str] | None = None
        self.waits_for = ""
        #: What the run is asked for; its follower reads it in another thread.
        self._wishes: list[str] = []
        self._starting = False
        self._follower: Worker | None = None
        self._workers = Workers(self)
        self._workers.failed.connect(self._on_failed)
        self._wanted: tuple[Sequence[SlideController], Work] | None = None
        self._saved = QTimer(self)
        self._saved.setInterval(_SAVED_MS)
        self._saved.timeout.connect(self._begin_if_saved)

    @property
    def busy(self) -> bool:
        """Return whether something is being retrained, or about to be."""
        return self._follower is not None or self._wanted is not None

    @property
    def ending(self) -> str:
        """Return "stop" or "cancel" once it was asked to end; else empty."""
        return self._wishes[-1] if self._wishes else ""

    def find(self) -> None:
        """Look for a retraining that is at work, or that ended unseen."""
        self._workers.run(runs_work, self._on_found, name="retrainings", urgent=True)

    def _on_found(self, runs: tuple[Run, ...]) -> None:
        if self.run is None and not self.busy and runs:
            self._follow(partial(follow_work, runs[0].folder, self._wishes))

    def begin(
        self,
        results: tuple[Path, ...],
        controllers: Sequence[SlideController],
        *,
        model: str,
        name: str,
        budget_s: float,
        patches: Path | None = None,
    ) -> None:
        """Retrain a model, once what was said of open slides is saved.

        Parameters
        ----------
        results
            Result folders.
        controllers
            Of those of them whose slides are open.
        model, name, budget_s, patches
            As :func:`~napari_metastasis.workflows.retrain.begin_run` takes them.
        """
        if self.busy:
            return
        self.run, self.kept, self._wishes = None, None, []
        self._wanted = controllers, partial(begin_work, results, model, name, budget_s, patches, self._wishes)
        self._saved.start()
        self._begin_if_saved()

    def _begin_if_saved(self) -> None:
        if self._wanted is None:
            self._saved.stop()
            return
        controllers, work = self._wanted
        waits = ""
        for one in (one for one in controllers if not one.session.closed):
            if one.corrections.failed:
                self._wanted = None
                self._saved.stop()
                self._say("")
                self.failed.emit(f"{one.session.slide.name}: {one.session.corrections.saving.text}")
                return
            if one.busy:
                waits = "Waiting for the scan to end…"
            elif not one.corrections.settled:
                waits = waits or "Saving what you said…"
        if waits:
            self._say(waits)
            return
        self._wanted = None
        self._saved.stop()
        self.waits_for = ""
        self._follow(work)

    def go_on(self) -> None:
        """Go on with a run whose process was killed."""
        if self.run is not None and not self.busy:
            self._wishes = []
            self._follow(partial(go_on_work, self.run, self._wishes))

    def _follow(self, work: Work) -> None:
        worker = Worker(work, name="retraining", parent=self)
        worker.yielded.connect(lambda runs: self._on_run(runs[-1]))
        worker.failed.connect(self._on_failed)
        worker.ended.connect(self._on_followed)
        self._follower = worker
        worker.start()
        self.changed.emit()

    def _on_run(self, run: Run) -> None:
        self.run = run
        self.changed.emit()

    def _on_followed(self) -> None:
        self._follower = None
        run = self.run
        if self.ending == _CANCEL and run is not None:
            # Nobody wants to be asked about it.
            self.run = None
            self._workers.run(partial(discard_work, run), lambda _: None, name="discard")
        self.changed.emit()

    def stop(self) -> None:
        """Let it end, and keep what it has learnt."""
        self._wish(_STOP)

    def cancel(self) -> None:
        """Let it end; nothing is kept of it."""
        if self._wanted is not None:
            self._wanted = None
            self._saved.stop()
            self._say("")
        else:
            self._wish(_CANCEL)

    def _wish(self, name: str) -> None:
        if self._follower is not None and name not in self._wishes:
            self._wishes.append(name)
            self.changed.emit()

    def keep(self) -> None:
        """Keep what came out by its name."""
        run = self.run
        if run is None or run.kind != "ended":
            return

        def show(entry: Any) -> None:
            self.run, self.kept = None, (entry, run.job.model)
            self.model_kept.emit()
            self.changed.emit()

        self._workers.run(partial(keep_work, run), show, name="keep", urgent=True)

    def discard(self) -> None:
        """Offer what came out no more; its folder stays."""
        run = self.run
        if run is None or self.busy:
            return

        def show(_: object) -> None:
            self.run = None
            self.changed.emit()
            self.find()

        self._workers.run(partial(discard_work, run), show, name="discard", urgent=True)

    def _say(self, waits_for: str) -> None:
        if waits_for != self.waits_for or not self.busy:
            self.waits_for = waits_for
            self.changed.emit()

    def _on_failed(self, error: BaseException) -> None:
        self.failed.emit(tell(error))

    def close(self) -> None:
        """Follow no more; what is at work goes on."""
        self._saved.stop()
        for worker in (self._follower, *self._workers.running):
            if worker is not None:
                worker.abandon()
        if self._follower is not None:
            # It lets go of the process within a moment.
            self._follower.wait(2)
