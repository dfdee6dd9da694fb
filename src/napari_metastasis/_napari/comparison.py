"""Two models on the same tissue: scanned with one and the other, shown in turn, and what changed between them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.forms import label_of
from napari_metastasis.tasks import pass_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.worker import ShouldStop, Workers
    from napari_metastasis.scanning import MapValues
    from napari_metastasis.slides import Slide
    from napari_metastasis.workflows.scan import EarlierResult
    from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["Comparison", "Side"]

Side = Literal["old", "new", "change"]


def _result_work(slide: Slide, folder: Path, _: ShouldStop) -> EarlierResult:
    """Return what a scan has just left in its folder."""
    from napari_metastasis.workflows.scan import earlier_results, load_result

    found = earlier_results(slide, folder)
    return load_result(slide, next(one for one in found if one.folder == folder))


def _change_work(old: EarlierResult, new: EarlierResult, _: ShouldStop) -> MapValues:
    """Return what changed between the scans' own maps: later passes of one may have no like in the other."""
    from napari_metastasis.scanning import what_changed

    return what_changed(old.maps[0], new.maps[0])


class Comparison(QObject):
    """Compares two models on one open slide. What another scan or result shows takes the comparison away.

    Parameters
    ----------
    controller
        Of the slide.
    workers
        Does the work beside the window.

    Attributes
    ----------
    kind
        "none", "scanning", or "ready".
    side
        What is shown of a comparison that is ready.
    names
        Of the old and the new model.
    note
        What has to be said; empty where there is nothing.
    """

    #: Another state, or another side is shown.
    changed = Signal()

    def __init__(self, controller: SlideController, workers: Workers) -> None:
        super().__init__(controller)
        self._controller, self._workers = controller, workers
        self.kind: Literal["none", "scanning", "ready"] = "none"
        self.side: Side = "new"
        self.names = ("", "")
        self.note = ""
        self._jobs: list[ScanJob] = []
        self._results: list[EarlierResult] = []
        self._change: MapValues | None = None
        self._is_own = False
        controller.scanned.connect(self._on_scanned)
        workers.failed.connect(self._on_failed)
        controller.session.maps_replaced.connect(self._on_maps_replaced)

    def start(self, old: ScanJob, new: ScanJob) -> None:
        """Scan with both models, the old one first; what was scanned before is not scanned again."""
        if self._controller.busy or self._controller.session.closed:
            return
        self._forget()
        self._jobs, self.kind = [old, new], "scanning"
        self._say("Scanning with the old model…")
        self._controller.scan(old)

    def show(self, side: Side) -> None:
        """Show what the old model found, or the new one, or what changed between them."""
        if self.kind != "ready" or self._controller.busy:
            return
        is_old, was_old = side == "old", self.side == "old"
        self._controller.layers.show_change(None)
        if is_old != was_old:
            self._is_own = True
            try:
                self._controller.results.show_loaded(self._results[0 if is_old else 1])
            finally:
                self._is_own = False
        if side == "change":
            self._controller.layers.show_change(self._change)
        self.side = side
        self.changed.emit()

    def flip(self) -> bool:
        """Show the other model's findings; return whether two are compared."""
        if self.kind != "ready":
            return False
        self.show("new" if self.side == "old" else "old")
        return True

    def _on_scanned(self, result: Any) -> None:
        if self.kind != "scanning":
            return
        if result is None or not result.finished:
            self._forget()
            self._say("Stopped: the same comparison goes on from here")
            return
        work = partial(_result_work, self._controller.session.slide, result.output)
        self._workers.run(work, self._on_loaded, name="compare", urgent=True)

    def _on_loaded(self, result: EarlierResult) -> None:
        if self.kind != "scanning" or self._controller.session.closed:
            return
        self._results.append(result)
        if len(self._results) == 1:
            if self._controller.busy:
                # Somebody has begun another scan meanwhile.
                self._forget()
                self._say("")
                return
            self._say("Scanning with the new model…")
            self._controller.scan(self._jobs[1])
            return
        old, new = self._results
        self._workers.run(partial(_change_work, old, new), self._on_change, name="compare", urgent=True)

    def _on_change(self, change: MapValues) -> None:
        if self.kind != "scanning" or self._controller.session.closed:
            return
        self._change, self.kind, self.side = change, "ready", "new"
        old, new = self._results
        self.names = (old.model_name, new.model_name)
        self._say(_lacking_text(old, new))

    def _on_failed(self, _: BaseException) -> None:
        # Whoever hears of all failures says which it was.
        if self.kind == "scanning" and not self._controller.busy:
            self._forget()
            self._say("")

    def _on_maps_replaced(self) -> None:
        if self.kind == "ready" and not self._is_own:
            self._forget()
            self._say("")

    def _forget(self) -> None:
        self._controller.layers.show_change(None)
        self._jobs, self._results, self._change, self.kind, self.names = [], [], None, "none", ("", "")

    def _say(self, note: str) -> None:
        self.note = note
        self.changed.emit()


def _lacking_text(old: EarlierResult, new: EarlierResult) -> str:
    """Return what has to be said where findings of the old model are read with what the new one does not have."""
    made = {one.kind.name for one in old.maps} - {one.kind.name for one in new.maps}
    named = [f"“{label_of(one.settings.SWITCH)}”" for one in pass_tasks() if one.settings and one.writes in made]
    lacking = " and ".join(named)
    return f"The findings before are read with {lacking}, which the new model does not have." if named else ""
