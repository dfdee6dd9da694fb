"""The table of lesions: rows are made when they are seen, so that ten thousand cost no more than ten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_metastasis._napari.parts import area_text, length_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_metastasis.lesions import LesionRow

__all__ = ["LesionTable", "LesionTableModel"]

_HEADERS = ("No.", "Size class", "mm", "mm²", "Prob.")
_CLASS = 1
_WIDTHS = {0: 34, 2: 54, 3: 58, 4: 42}
_ROW_PX = 24
#: What a cell takes beside its text: the square, and what lies around both.
_BESIDE_PX = 24
#: Explanations of the columns; ``None`` stands for the rule of the size classes.
_HINTS = (
    "Number of the finding, in the files, too; it stays while the threshold moves",
    None,
    "Longest diameter in mm",
    "Area in mm²",
    "Highest tumour probability in it",
)
#: By column: what its rows are sorted by.
_KEYS: tuple[Callable[[LesionRow], Any], ...] = (
    lambda lesion: lesion.id,
    lambda lesion: (lesion.length_mm, lesion.cut_by_edge),
    lambda lesion: lesion.length_mm,
    lambda lesion: lesion.area_mm2,
    lambda lesion: -1.0 if lesion.probability is None else lesion.probability,
)


class LesionTableModel(QAbstractTableModel):
    """Lesions as rows: in the order of the files, until a person sorts them."""

    def __init__(self) -> None:
        super().__init__()
        self.lesions: list[LesionRow] = []
        self._in_files: Sequence[LesionRow] = ()
        self._column, self._descending = -1, False

    def show(self, lesions: Sequence[LesionRow]) -> None:
        """Take other lesions, in the order of the files."""
        self.beginResetModel()
        self._in_files = lesions
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; a column below 0 brings the order of the files back."""
        self.beginResetModel()
        self._column, self._descending = column, order == Qt.SortOrder.DescendingOrder
        self._arrange()
        self.endResetModel()

    def _arrange(self) -> None:
        self.lesions = list(self._in_files)
        if self._column >= 0:
            # Stable: equals stay in the order of the files.
            self.lesions.sort(key=_KEYS[self._column], reverse=self._descending)

    def row_of(self, number: int | None) -> int:
        """Return the row of the lesion with this number; -1 where it is not shown."""
        return next((row for row, lesion in enumerate(self.lesions) if lesion.id == number), -1)

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
        from napari_metastasis.lesions import size_class_rule

        return f"{_HINTS[section] or size_class_rule()}; click to sort"

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        # Imported where there is a lesion: an empty window starts without it.
        from napari_metastasis.lesions import SIZE_CLASSES
        from napari_metastasis.lesions.texts import bounded

        lesion = self.lesions[index.row()]
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (
                str(lesion.id),
                lesion.class_short,
                bounded(length_text(lesion.length_mm), cut=lesion.cut_by_edge),
                bounded(area_text(lesion.area_mm2), cut=lesion.cut_by_edge),
                "–" if lesion.probability is None else f"{lesion.probability:.2f}",
            )[column]
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"Finding {lesion.id}: {lesion.class_text}; click to go there"
        if role == Qt.ItemDataRole.DecorationRole and column == _CLASS:
            return _swatch(SIZE_CLASSES[lesion.size_class].color)
        if role == Qt.ItemDataRole.TextAlignmentRole and column != _CLASS:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


def _swatch(color: str) -> QIcon:
    """Return a square of a class' colour, which stays as it is where its row is chosen."""
    pixmap = QPixmap(10, 10)
    pixmap.fill(QColor(color))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon


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
        self.setIconSize(QSize(10, 10))
        self.setWordWrap(True)
        rows = self.verticalHeader()
        rows.hide()
        rows.setDefaultSectionSize(_ROW_PX)
        columns = self.horizontalHeader()
        columns.setSectionResizeMode(_CLASS, QHeaderView.ResizeMode.Stretch)
        for column, width in _WIDTHS.items():
            columns.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.setColumnWidth(column, width)
        columns.setHighlightSections(False)
        columns.setSectionsClickable(True)
        # No column at first: the order of the files. The third click on a heading brings it back.
        columns.setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
        columns.setSortIndicatorClearable(True)
        self.setSortingEnabled(True)
        self.setMinimumHeight(120)
        columns.sectionResized.connect(self._on_resized)
        self.rows.modelReset.connect(lambda: self._fit_rows(self.columnWidth(_CLASS)))

    def _on_resized(self, column: int, _: int, width: int) -> None:
        if column == _CLASS:
            self._fit_rows(width)

    def _fit_rows(self, width: int) -> None:
        """Give the rows two lines where the longest of the classes that are shown does not fit into one."""
        metrics, room = self.fontMetrics(), width - _BESIDE_PX
        long = {lesion.class_short for lesion in self.rows.lesions if lesion.cut_by_edge}
        fits = all(metrics.horizontalAdvance(text) <= room for text in long)
        height = _ROW_PX if fits else 2 * metrics.lineSpacing() + _ROW_PX - metrics.height()
        if height != self.verticalHeader().defaultSectionSize():
            self.verticalHeader().setDefaultSectionSize(height)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802
        """Go to the lesion that the keys choose; Enter goes to the chosen one again."""
        if event is None:
            return
        before = self.currentIndex().row()
        super().keyPressEvent(event)
        chosen, again = self.currentIndex(), event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if chosen.isValid() and (chosen.row() != before or again):
            self.clicked.emit(chosen)
