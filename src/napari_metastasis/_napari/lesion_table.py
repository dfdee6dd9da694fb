"""The table of lesions: rows are made when they are seen, so that ten thousand cost no more than ten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QColor, QFont, QIcon, QKeyEvent, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_metastasis._napari.parts import area_text, length_text
from napari_metastasis._napari.ranking import MARKS, STATE_WORDS, UNCLEAR_MARK, Ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_metastasis.lesions import LesionReview, LesionRow, Reviewed

__all__ = ["LesionTable", "LesionTableModel"]

_HEADERS = ("No.", "Size class", "mm", "mm²", "Prob.", "")
_CLASS, _STATE = 1, 5
_WIDTHS = {0: 28, 2: 51, 3: 55, 4: 38, _STATE: 18}
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
    "What you said of it: ✓ tumour, ✗ no tumour, – ignored, + drawn by hand, ? look again",
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
        self.ranking = Ranking.FILES
        self._in_files: Sequence[LesionRow] = ()
        self._drawn: Sequence[LesionRow] = ()
        #: Of those that no lesion stands for: how many were drawn, and how many the threshold hides.
        self.added = self.hidden = 0
        self._threshold = 0.0
        self._reviewed: Reviewed | None = None
        self._rows: dict[int, int] = {}
        self._swatches: dict[str, QIcon] = {}
        self._column, self._descending = -1, False

    def show(
        self,
        lesions: Sequence[LesionRow],
        drawn: Sequence[LesionRow] = (),
        *,
        reviewed: Reviewed | None = None,
        threshold: float = 0.0,
    ) -> None:
        """Take other lesions.

        Parameters
        ----------
        lesions
            In the order of the files.
        drawn
            What a person said of no lesion that is shown; at the end where nothing else is asked for.
        reviewed
            What was said of the lesions.
        threshold
            From which they are shown.
        """
        self.beginResetModel()
        self._in_files, self._reviewed, self._threshold = lesions, reviewed, threshold
        self._take_drawn(drawn)
        self._arrange()
        self.endResetModel()

    def say(self, reviewed: Reviewed | None, drawn: Sequence[LesionRow]) -> None:
        """Show what was said of the lesions by now; they stay in their places."""
        self._reviewed = reviewed
        if tuple(drawn) != tuple(self._drawn):
            kept = {one.id: one for one in drawn}
            if kept.keys() != {one.id for one in self._drawn}:
                self.show(self._in_files, drawn, reviewed=reviewed, threshold=self._threshold)
                return
            self._take_drawn(drawn)
            self.lesions = [kept.get(one.id, one) for one in self.lesions]
        if self.lesions:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.lesions) - 1, _STATE))

    def _take_drawn(self, drawn: Sequence[LesionRow]) -> None:
        self._drawn = drawn
        self.added = sum(getattr(one, "state", "") == "added" for one in drawn)
        self.hidden = len(drawn) - self.added

    def rank(self, ranking: Ranking) -> None:
        """Bring the lesions into the order in which they are to be looked at: once, not after every decision."""
        self.beginResetModel()
        self.ranking, self._column = ranking, -1
        self._arrange()
        self.endResetModel()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column; a column below 0 brings the order of the ranking back."""
        self.beginResetModel()
        self._column, self._descending = column, order == Qt.SortOrder.DescendingOrder
        self._arrange()
        self.endResetModel()

    def _arrange(self) -> None:
        self.lesions = [*self._in_files, *self._drawn]
        # Stable: equals stay in the order of the files.
        if self._column == _STATE:
            self.lesions.sort(key=self.mark, reverse=self._descending)
        elif self._column >= 0:
            self.lesions.sort(key=_KEYS[self._column], reverse=self._descending)
        elif self.ranking is not Ranking.FILES:
            key = self.ranking.sort_key(self._threshold)
            self.lesions.sort(key=lambda lesion: (self.is_decided(lesion), key(lesion)))
        self._rows = {lesion.id: row for row, lesion in enumerate(self.lesions)}

    # -- what was said of them -----------------------------------------------------------------------------------

    def review(self, lesion: LesionRow) -> LesionReview:
        """Return what was said of a row: of a lesion that is shown, or of what a person said of none."""
        if lesion.id >= 0 and self._reviewed is not None and lesion.id in self._reviewed.of_lesion:
            return self._reviewed.of_lesion[lesion.id]
        from napari_metastasis.lesions import LesionReview

        return LesionReview(getattr(lesion, "state", "pending"))

    def is_decided(self, lesion: LesionRow) -> bool:
        """Return whether a person has decided on a row."""
        return self.review(lesion).state != "pending"

    def mark(self, lesion: LesionRow) -> str:
        """Return what stands for the state of a row."""
        review = self.review(lesion)
        return MARKS[review.state] if review.is_clear else UNCLEAR_MARK

    def next_pending(self, row: int) -> int:
        """Return the next row on which nobody has decided, from a row on and then from the first; -1 where all are."""
        rows = [*range(row + 1, len(self.lesions)), *range(min(row + 1, len(self.lesions)))]
        return next((one for one in rows if not self.is_decided(self.lesions[one])), -1)

    def row_of(self, number: int | None) -> int:
        """Return the row of the lesion with this number; -1 where it is not shown."""
        return -1 if number is None else self._rows.get(number, -1)

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

        hint = _HINTS[section] or size_class_rule()
        return hint if section == _STATE else f"{hint}; click to sort"

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        # Imported where there is a lesion: an empty window starts without it.
        from napari_metastasis.lesions import SIZE_CLASSES
        from napari_metastasis.lesions.texts import bounded

        lesion = self.lesions[index.row()]
        column = index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (
                str(lesion.id) if lesion.id >= 0 else "",
                lesion.class_short,
                bounded(length_text(lesion.length_mm), cut=lesion.cut_by_edge),
                bounded(area_text(lesion.area_mm2), cut=lesion.cut_by_edge),
                "–" if lesion.probability is None else f"{lesion.probability:.2f}",
                self.mark(lesion),
            )[column]
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._hint(lesion)
        if role == Qt.ItemDataRole.FontRole and column != _STATE and not self.review(lesion).counts:
            # As in the report: what does not count is struck out.
            font = QFont()
            font.setStrikeOut(True)
            return font
        if role == Qt.ItemDataRole.DecorationRole and column == _CLASS:
            color = SIZE_CLASSES[lesion.size_class].color
            # Asked for every row at every repaint.
            if color not in self._swatches:
                self._swatches[color] = _swatch(color)
            return self._swatches[color]
        if role == Qt.ItemDataRole.TextAlignmentRole and column == _STATE:
            return Qt.AlignmentFlag.AlignCenter
        if role == Qt.ItemDataRole.TextAlignmentRole and column != _CLASS:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def _hint(self, lesion: LesionRow) -> str:
        review = self.review(lesion)
        said = STATE_WORDS[review.state] if review.is_clear else "not clear what was said of it: look again"
        if lesion.id >= 0:
            return f"Finding {lesion.id}: {lesion.class_text}; {said}; click to go there"
        shown = "" if review.state == "added" else "; not shown at this threshold"
        return f"{lesion.class_text}; {said}{shown}; click to go there"


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
        # Seen first; the others keep their numbers.
        columns.moveSection(_STATE, 0)
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
