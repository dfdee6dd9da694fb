"""The table of lesions: rows are made when they are seen, so that ten thousand cost no more than ten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor, QKeyEvent, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_metastasis._napari.parts import area_text, length_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_metastasis.lesions import LesionRow

__all__ = ["LesionTable", "LesionTableModel"]

_HEADERS = ("Size class", "mm", "mm²", "Prob.")
#: Explanations of the columns after the first.
_HINTS = (
    "Longest diameter in mm",
    "Area in mm²",
    "Highest tumour probability in it",
)


class LesionTableModel(QAbstractTableModel):
    """Lesions as rows, the largest first."""

    def __init__(self) -> None:
        super().__init__()
        self.lesions: list[LesionRow] = []

    def show(self, lesions: Sequence[LesionRow]) -> None:
        """Take other lesions."""
        self.beginResetModel()
        self.lesions = sorted(lesions, key=lambda lesion: (-lesion.length_mm, lesion.id))
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return how many lesions there are."""
        return 0 if parent is not None and parent.isValid() else len(self.lesions)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return how many columns there are."""
        return 0 if parent is not None and parent.isValid() else len(_HEADERS)

    def headerData(  # noqa: N802
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return a heading, or its explanation."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return _HEADERS[section]
        if role != Qt.ItemDataRole.ToolTipRole:
            return None
        if section:
            return _HINTS[section - 1]
        from napari_metastasis.lesions import size_class_rule

        return size_class_rule()

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        # Imported where there is a lesion: an empty window starts without it.
        from napari_metastasis.lesions import SIZE_CLASSES

        lesion = self.lesions[index.row()]
        style = SIZE_CLASSES[lesion.size_class]
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (
                style.short,
                length_text(lesion.length_mm),
                area_text(lesion.area_mm2),
                "–" if lesion.probability is None else f"{lesion.probability:.2f}",
            )[column]
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"Lesion {lesion.id}: {style.label}; click to go there"
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            swatch = QPixmap(10, 10)
            swatch.fill(QColor(style.color))
            return swatch
        if role == Qt.ItemDataRole.TextAlignmentRole and column:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


class LesionTable(QTableView):
    """Shows lesions; a click on a row, or a key that goes to another one, emits ``clicked`` of the view."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = LesionTableModel()
        self.setModel(self.rows)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        rows = self.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(24)
        columns = self.horizontalHeader()
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in range(1, len(_HEADERS)):
            columns.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.setColumnWidth(column, 58)
        columns.setHighlightSections(False)
        self.setMinimumHeight(120)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802
        """Go to the lesion that the keys choose; Enter goes to the chosen one again."""
        if event is None:
            return
        before = self.currentIndex().row()
        super().keyPressEvent(event)
        chosen, again = self.currentIndex(), event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if chosen.isValid() and (chosen.row() != before or again):
            self.clicked.emit(chosen)
