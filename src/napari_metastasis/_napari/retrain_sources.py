"""The list of slides that a model can learn from: those that are open, and results that a person added."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from napari_metastasis._napari.retrain_work import Source, counted, sources_work
from napari_metastasis._napari.worker import Workers, tell

if TYPE_CHECKING:
    from napari_metastasis._napari.slide_controller import SlideController

__all__ = ["SourceList"]

#: The list is as high as its rows, up to so many.
_MOST_ROWS, _ROW_PX = 5, 22
_SOURCE = Qt.ItemDataRole.UserRole


class SourceList(QWidget):
    """Lists slides with corrections; those that are ticked are learnt from."""

    #: Something is listed, or ticked, that was not.
    changed = Signal()
    #: A folder could not be added: one line.
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._open: tuple[Source, ...] = ()
        self._added: dict[Path, Source] = {}
        self._unticked: set[Path] = set()
        self._workers = Workers(self)
        self._workers.failed.connect(lambda error: self.failed.emit(tell(error)))
        self.list = QListWidget()
        self.list.setToolTip("Slides with findings that you confirmed or rejected, or areas that you drew")
        self.list.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.list.itemChanged.connect(self._on_ticked)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.add_button = QPushButton("Add results…")
        self.add_button.setToolTip("Learn from slides that are not open, too: a result folder, or one that holds such")
        self.add_button.clicked.connect(lambda _: self.ask())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.hint)
        layout.addWidget(self.list)
        layout.addWidget(self.add_button, 0, Qt.AlignmentFlag.AlignLeft)
        self.destroyed.connect(self._abandon)
        self._show()

    def _abandon(self) -> None:
        for worker in self._workers.running:
            worker.abandon()

    @property
    def chosen(self) -> tuple[Source, ...]:
        """Return what is learnt from."""
        items = [self.list.item(row) for row in range(self.list.count())]
        return tuple(one.data(_SOURCE) for one in items if one.checkState() == Qt.CheckState.Checked)

    def show_open(self, controllers: Sequence[SlideController]) -> None:
        """List the slides that are open and have corrections."""
        found = []
        for one in controllers:
            source = counted(one.session.slide.name, one.session.folder, one.session.corrections.present)
            if source.teaches:
                found.append(source)
        if tuple(found) != self._open:
            self._open = tuple(found)
            self._show()

    def ask(self) -> None:
        """Ask for a folder with results, and list those with corrections."""
        name = QFileDialog.getExistingDirectory(self, "Results to learn from")
        if name:
            self.add(Path(name))

    def add(self, place: Path) -> None:
        """List the results with corrections in a folder."""

        def show(found: tuple[Source, ...]) -> None:
            self._added |= {one.folder: one for one in found if one.folder is not None}
            self._show()

        self._workers.run(partial(sources_work, place), show, name="sources", urgent=True)

    def _show(self) -> None:
        listed = {one.folder for one in self._open}
        sources = [*self._open, *(one for folder, one in self._added.items() if folder not in listed)]
        self.list.blockSignals(True)
        self.list.clear()
        for one in sources:
            item = QListWidgetItem(one.text if one.folder is not None else f"{one.text} (scan it first)")
            item.setData(_SOURCE, one)
            ticked = one.folder is not None and one.folder not in self._unticked
            flags = Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled
            item.setFlags(flags if one.folder is not None else Qt.ItemFlag.NoItemFlags)
            item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
            item.setToolTip("" if one.folder is None else str(one.folder))
            self.list.addItem(item)
        self.list.blockSignals(False)
        self.list.setVisible(bool(sources))
        self.list.setFixedHeight(min(len(sources), _MOST_ROWS) * _ROW_PX + 6)
        self.hint.setText(
            "Learns from:"
            if sources
            else "Confirm or reject findings, or draw what was missed: the model can then learn from it."
        )
        self.changed.emit()

    def _on_ticked(self, item: QListWidgetItem) -> None:
        folder = item.data(_SOURCE).folder
        if item.checkState() == Qt.CheckState.Checked:
            self._unticked.discard(folder)
        elif folder is not None:
            self._unticked.add(folder)
        self.changed.emit()
