"""Corrections from and for other programs: a file comes in as one step, and what was said goes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_metastasis._napari.compat import window_of
from napari_metastasis._napari.reading_progress import ReadingProgress, StoppedReadingError
from napari_metastasis._napari.worker import ShouldStop, Worker, Workers, tell

if TYPE_CHECKING:
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.workspace import Workspace

__all__ = ["CorrectionExchange"]

_FORMATS = {
    "GeoJSON, as QuPath (*.geojson)": "geojson",
    "ASAP (*.xml)": "asap",
    "Digital Slide Archive (*.json)": "dsa",
}
_SUFFIXES = {"geojson": ".geojson", "asap": ".xml", "dsa": ".json"}
#: How far an import is, is told so often.
_TELL_MS = 150


class CorrectionExchange(QWidget):
    """Two buttons, and a line that says how far a file is read; reading can be stopped.

    Parameters
    ----------
    workspace
        Whose current slide it is for.
    """

    #: Something failed: one line.
    failed = Signal(str)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._workers = Workers(self)
        self._workers.failed.connect(lambda error: self.failed.emit(tell(error)))
        #: The import that is under way, and what it says of itself.
        self._import: tuple[Worker, Callable[[], str]] | None = None
        self._tells = QTimer(self)
        self._tells.setInterval(_TELL_MS)
        self._tells.timeout.connect(self._show_reading)
        self.import_button, self.export_button = QPushButton(), QPushButton("Export…")
        self.export_button.setToolTip("Write what was said for ASAP, QuPath or the Digital Slide Archive")
        self.import_button.clicked.connect(lambda _: self._on_import())
        self.export_button.clicked.connect(lambda _: self._choose_export())
        self.reading = QLabel()
        self.reading.setWordWrap(True)
        self.reading.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        grid.addWidget(self.import_button, 0, 0)
        grid.addWidget(self.export_button, 0, 1)
        grid.addWidget(self.reading, 1, 0, 1, 2)
        self._show_reading()

    @property
    def busy(self) -> bool:
        """Return whether a file is being read or written."""
        return bool(self._workers.running)

    @property
    def _current(self) -> SlideController | None:
        return self._workspace.current

    # -- in ------------------------------------------------------------------------------------------------------

    def _on_import(self) -> None:
        if self._import is not None:
            self._import[0].stop()
            return
        name, _ = QFileDialog.getOpenFileName(
            window_of(self._workspace.viewer),
            "Import outlines",
            "",
            "Outlines (*.geojson *.json *.xml *.gz);;All files (*)",
        )
        if name:
            self.import_file(Path(name))

    def import_file(self, path: Path) -> None:
        """Add the outlines of a file to what is said, in one step that can be taken back."""
        if self._current is None or self._import is not None:
            return
        session, progress = self._current.session, ReadingProgress()

        def show(read: Any) -> None:
            from napari_metastasis.workflows.review import put_together

            if session.closed or read is None:
                return
            together, told = put_together(session.corrections.present, read)
            session.corrections.do(f"Import {path.name}", together)
            show_info(
                f"{path.name}: {told.added} added, {told.changed} changed, {told.same} as before"
                + _left_out(told.omitted)
            )

        work = partial(_import_work, path, session.slide.bounds, self._workspace.reviewer.name, progress)
        worker = self._workers.make(work, show, name="import", urgent=True)
        worker.ended.connect(self._on_read)
        self._import = worker, partial(progress.text, f"Reading {path.name}")
        worker.start()
        self._tells.start()
        self._show_reading()

    def _on_read(self) -> None:
        self._import = None
        self._tells.stop()
        self._show_reading()

    def _show_reading(self) -> None:
        """Say how far the file is read that is being imported."""
        reads = self._import
        self.import_button.setText("Import…" if reads is None else "Stop reading")
        self.import_button.setToolTip(
            "Add the outlines of a file of ASAP, QuPath or the Digital Slide Archive"
            if reads is None
            else "Leave the file as it is, and add nothing"
        )
        self.reading.setText("" if reads is None else reads[1]())
        self.reading.setVisible(reads is not None)

    # -- out -----------------------------------------------------------------------------------------------------

    def _choose_export(self) -> None:
        if self._current is None:
            return
        name, chosen = QFileDialog.getSaveFileName(
            window_of(self._workspace.viewer),
            "Export what was said",
            f"{self._current.session.slide.name}.geojson",
            ";;".join(_FORMATS),
        )
        if name:
            to = _FORMATS.get(chosen, "geojson")
            path = Path(name)
            self.export_file(path if path.suffix else path.with_suffix(_SUFFIXES[to]), to)

    def export_file(self, path: Path, to: str) -> None:
        """Write what is said for another program: "asap", "dsa" or "geojson"."""
        if self._current is None:
            return
        session, own = self._current.session, self._current.corrections.path
        if own is not None and path.absolute() == own.absolute():
            self.failed.emit(f"{path.name} holds the corrections themselves. Choose another name.")
            return

        def show(written: Any) -> None:
            show_info(f"{written.written} written to {path.name}" + _left_out(written.omitted))

        work = partial(_export_work, path, to, session.corrections.present, session.slide)
        self._workers.run(work, show, name="export", urgent=True)


def _left_out(omitted: Any) -> str:
    left = ", ".join(f"{count} {kind}" for kind, count in omitted.items())
    return f"; left out: {left}" if left else ""


def _import_work(
    path: Path, bounds: Any, reviewer: str, progress: ReadingProgress, should_stop: ShouldStop
) -> Any | None:
    """Return what a file holds; ``None`` where reading was stopped."""
    from napari_metastasis.workflows.review import read_from

    try:
        return read_from(path, bounds=bounds, reviewer=reviewer, tell=progress.tell(should_stop))
    except StoppedReadingError:
        return None


def _export_work(path: Path, to: str, corrections: Any, slide: Any, _: ShouldStop) -> Any:
    from napari_metastasis.workflows.review import write_for

    return write_for(to, path, corrections, slide=slide.name, bounds=slide.bounds)
