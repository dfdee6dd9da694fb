"""All models: what each was made from, what it learnt from and whether it was better; export, import and remove."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_metastasis._napari.parts import ErrorLine
from napari_metastasis._napari.retrain_work import export_work, import_work, remove_work, versions_work
from napari_metastasis._napari.worker import Work, Workers, tell

if TYPE_CHECKING:
    from napari_metastasis.models import ModelVersion

__all__ = ["ModelsDialog"]

_COLUMNS = ("Model", "Made from", "When", "Verdict", "Learnt from")
_SIZE, _WIDTHS = (900, 380), (190, 150, 70, 240)
_VERSION = Qt.ItemDataRole.UserRole


class ModelsDialog(QDialog):
    """Lists all models as versions. It does not stand in the way: the window goes on.

    Parameters
    ----------
    parent
        Qt parent.
    """

    #: A model came or went.
    models_changed = Signal()
    #: Two models are to be compared on the view: the names of the old and the new one.
    comparison_wanted = Signal(str, str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Models")
        self.resize(*_SIZE)
        self._workers = Workers(self)
        self.error = ErrorLine()
        self._workers.failed.connect(lambda error: self.error.show_failure(tell(error)))
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(_COLUMNS)
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.itemSelectionChanged.connect(self._follow)
        for column, width in enumerate(_WIDTHS):
            self.tree.setColumnWidth(column, width)
        self.note = QLabel(
            "A retrained model is a new one: those that it was made from stay. To go back, choose the old one under "
            "Scan › Advanced › Model."
        )
        self.note.setWordWrap(True)
        self.export_button, self.import_button, self.remove_button = (
            QPushButton(text) for text in ("Export…", "Import…", "Remove…")
        )
        self.export_button.setToolTip("Copy it into a folder, for another workstation")
        self.import_button.setToolTip("Take a model from a folder that another workstation exported")
        self.remove_button.setToolTip("Delete it; models that come with the program stay")
        self.export_button.clicked.connect(lambda _: self.ask_export())
        self.import_button.clicked.connect(lambda _: self.ask_import())
        self.remove_button.clicked.connect(lambda _: self.ask_remove())
        self.compare_button = QPushButton("Compare on the view")
        self.compare_button.setToolTip("Scan what the window shows with it and with the one that it was made from")
        self.compare_button.clicked.connect(lambda _: self._compare())
        close = QPushButton("Close")
        close.clicked.connect(self.accept)
        row = QHBoxLayout()
        for button in (self.compare_button, self.export_button, self.import_button, self.remove_button):
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(close)
        layout = QVBoxLayout(self)
        for widget in (self.error, self.tree, self.note):
            layout.addWidget(widget)
        layout.addLayout(row)
        self.question: QMessageBox | None = None
        self.finished.connect(self._abandon)
        self._follow()
        self.fill()

    def _abandon(self, *_: object) -> None:
        for worker in self._workers.running:
            worker.abandon()

    @property
    def chosen(self) -> ModelVersion | None:
        """Return the model that is chosen; ``None`` where none is."""
        items = self.tree.selectedItems()
        found: ModelVersion | None = items[0].data(0, _VERSION) if items else None
        return found

    def choose(self, name: str) -> None:
        """Choose a model by its name."""
        for item in self.tree.findItems(name, Qt.MatchFlag.MatchExactly, 0):
            self.tree.setCurrentItem(item)

    def fill(self, say: str = "") -> None:
        """Look for the models beside the window.

        Parameters
        ----------
        say
            What is said below the list from then on; empty for what was said before.
        """

        def show(versions: Any) -> None:
            from napari_metastasis.workflows.dates import day_text

            self.tree.clear()
            for one in versions:
                when = "" if one.written is None or one.entry.shipped else day_text(one.written)
                made_from = one.parents[0] if one.parents else ("comes with the program" if one.entry.shipped else "–")
                item = QTreeWidgetItem([one.entry.name, made_from, when, one.verdict or "–", one.data])
                item.setData(0, _VERSION, one)
                for column in range(len(_COLUMNS)):
                    item.setToolTip(column, item.text(column))
                if one.lineage:
                    item.setToolTip(1, one.lineage)
                self.tree.addTopLevelItem(item)
            if say:
                self.note.setText(say)

        self._workers.run(versions_work, show, name="models", urgent=True)

    def _follow(self) -> None:
        chosen = self.chosen
        self.export_button.setEnabled(chosen is not None)
        self.remove_button.setEnabled(chosen is not None and not chosen.entry.shipped)
        self.compare_button.setEnabled(self._parent_of(chosen) != "")

    def _parent_of(self, chosen: ModelVersion | None) -> str:
        """Return the name of the model that one was made from; empty where that is not there any more."""
        parent = next(iter(chosen.parents), "") if chosen is not None else ""
        return parent if self.tree.findItems(parent, Qt.MatchFlag.MatchExactly, 0) else ""

    def _compare(self) -> None:
        if self.chosen is not None:
            self.comparison_wanted.emit(self._parent_of(self.chosen), self.chosen.entry.name)
            self.accept()

    def _do(self, work: Work, say: Callable[[Any], str], *, changes: bool) -> None:
        def show(found: Any) -> None:
            self.error.show_failure("")
            self.fill(say(found))
            if changes:
                self.models_changed.emit()

        self._workers.run(work, show, name="models", urgent=True)

    def ask_export(self) -> None:
        """Ask where to, and export the chosen model."""
        name = QFileDialog.getExistingDirectory(self, "Export into a new folder inside")
        if name and self.chosen is not None:
            self.export(Path(name))

    def export(self, into: Path) -> None:
        """Copy the chosen model into a new folder."""
        if self.chosen is not None:
            work = partial(export_work, self.chosen.entry.name, into)
            self._do(work, lambda folder: f"Exported into {folder}. Import that folder elsewhere.", changes=False)

    def ask_import(self) -> None:
        """Ask for a folder, and take the model there."""
        name = QFileDialog.getExistingDirectory(self, "Folder of an exported model")
        if name:
            self.take(Path(name))

    def take(self, folder: Path) -> None:
        """Keep the model of a folder by its name."""
        self._do(partial(import_work, folder), lambda entry: f"{entry.name} can be chosen now.", changes=True)

    def ask_remove(self) -> None:
        """Ask whether the chosen model is to be deleted."""
        chosen = self.chosen
        if chosen is None or chosen.entry.shipped:
            return
        name = chosen.entry.name
        self.question = QMessageBox(
            QMessageBox.Icon.Question,
            "Remove",
            f"Delete {name} for good?\nModels that were made from it stay. Export it first to keep a copy.",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel,
            self,
        )
        self.question.setDefaultButton(QMessageBox.StandardButton.Cancel)
        self.question.finished.connect(lambda answer: self._on_answer(name, answer))
        self.question.open()  # not exec(): the window goes on

    def _on_answer(self, name: str, answer: int) -> None:
        question, self.question = self.question, None
        if question is not None:
            question.deleteLater()
        if answer == int(QMessageBox.StandardButton.Yes):
            self._do(partial(remove_work, name), lambda entry: f"{entry.name} was removed.", changes=True)
