"""What the panel's lists and switches say is read in full, however narrow the panel is."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QSize
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QCheckBox, QComboBox, QSizePolicy, QWidget

from napari_metastasis._napari.fitting import broken_into_lines, fit_texts

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 5, [""]),
        ("one", 2, ["one"]),
        ("one two", 7, ["one two"]),
        ("one two", 6, ["one", "two"]),
        ("a bb ccc dddd", 6, ["a bb", "ccc", "dddd"]),
        ("every 11.7\N{NO-BREAK SPACE}µm", 9, ["every", "11.7\N{NO-BREAK SPACE}µm"]),
    ],
)
def test_lines_break_between_words_where_they_would_be_too_long(text: str, width: int, lines: list[str]) -> None:
    assert broken_into_lines(text, width, len).split("\n") == lines


@pytest.fixture
def part(qtbot) -> QWidget:
    """A list and a switch, of a width that the test chooses."""
    widget = QWidget()
    qtbot.addWidget(widget)
    choices = QComboBox(widget)
    choices.addItems(["fast", "a long choice of several words that does not fit"])
    switch = QCheckBox("Fewer false alarms (may miss single cells)", widget)
    switch.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    fit_texts(widget)
    widget.show()
    return widget


def test_a_switch_takes_the_lines_that_its_words_need(part: QWidget, qtbot) -> None:
    switch = part.findChild(QCheckBox)
    heights = []
    for width in (600, 160, 90, 600):
        switch.resize(width, 20)
        qtbot.wait(20)
        assert switch.text().replace("\n", " ") == "Fewer false alarms (may miss single cells)"
        assert switch.sizeHint().width() <= width
        heights.append(switch.sizeHint().height())
    assert heights[0] == heights[3] < heights[1] < heights[2]


def test_a_list_shows_in_lines_what_is_longer_than_it_is_wide(part: QWidget, qtbot) -> None:
    choices = part.findChild(QComboBox)

    def drawn(width: int) -> QImage:
        choices.resize(width, 0)
        qtbot.wait(20)
        choices.resize(width, max(choices.minimumHeight(), choices.sizeHint().height()))
        return choices.grab().toImage()

    assert drawn(160).size() == QSize(160, choices.sizeHint().height())
    assert choices.minimumHeight() == 0
    choices.setCurrentIndex(1)
    narrow = drawn(160)
    assert choices.minimumHeight() >= 3 * choices.fontMetrics().lineSpacing()
    # Every line is drawn: there is ink in each third.
    third = narrow.height() // 3
    for top in (0, third, 2 * third):
        rows = range(top, top + third)
        assert len({narrow.pixel(x, y) for y in rows for x in range(8, 120)}) > 8
    drawn(600)
    assert choices.minimumHeight() == 0
    assert choices.currentText() == choices.itemText(1)
    assert choices.sizePolicy().horizontalPolicy() == QSizePolicy.Policy.Ignored
