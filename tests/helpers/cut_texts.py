"""Finds what a window says and does not show in full."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QLabel,
    QStyle,
    QStyleOptionComboBox,
    QTableView,
    QToolButton,
    QWidget,
)

from napari_metastasis._napari.fitting import broken_into_lines

#: What a cell of the table of lesions takes beside its text at least: its square, and what lies around both.
_BESIDE_PX = {1: 22}


def cut_texts(part: QWidget) -> list[str]:
    """Return the texts of a part's labels, buttons, lists and tables that are cut, of the tables' first rows."""
    found: list[str] = []
    for widget in part.findChildren(QWidget):
        if not widget.isVisibleTo(part):
            continue
        if isinstance(widget, QLabel):
            found += _of_label(widget)
        elif isinstance(widget, QAbstractButton) and not isinstance(widget, QToolButton):
            found += _of_button(widget)
        elif isinstance(widget, QComboBox):
            found += _of_list(widget)
        elif isinstance(widget, QTableView):
            found += _of_table(widget)
    return found


def _of_label(label: QLabel) -> list[str]:
    high = label.heightForWidth(label.width()) if label.wordWrap() else label.sizeHint().height()
    wide = 0 if label.wordWrap() else label.sizeHint().width()
    return [label.text()] if label.text() and (label.height() < high or label.width() < wide) else []


def _of_button(button: QAbstractButton) -> list[str]:
    hint = button.sizeHint()
    cut = button.width() < hint.width() or button.height() < hint.height()
    return [button.text()] if button.text() and cut else []


def _fits(widget: QWidget, text: str, wide: int, high: int) -> bool:
    advance = widget.fontMetrics().horizontalAdvance
    lines = broken_into_lines(text, wide, advance).split("\n")
    return len(lines) * widget.fontMetrics().height() <= high and max(map(advance, lines)) <= wide


def _of_list(choices: QComboBox) -> list[str]:
    option, field = QStyleOptionComboBox(), QStyle.SubControl.SC_ComboBoxEditField
    choices.initStyleOption(option)
    room = choices.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, field, choices)
    text = choices.currentText()
    return [] if _fits(choices, text, room.width(), choices.height()) else [text]


def _of_table(table: QTableView) -> list[str]:
    found = []
    for column in range(table.model().columnCount()):
        index = table.model().index(0, column)
        place = table.visualRect(index)
        if not _fits(table, index.data() or "", place.width() - _BESIDE_PX.get(column, 4), place.height()):
            found.append(index.data())
    return found
