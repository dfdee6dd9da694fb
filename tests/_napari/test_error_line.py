"""A failure in the panel: it reads on every theme, stays, and can be closed."""

from __future__ import annotations

import re

import pytest
from qtpy.QtCore import Qt

from napari_metastasis._napari.parts import ErrorLine

pytestmark = pytest.mark.gui


@pytest.fixture
def line(qtbot) -> ErrorLine:
    widget = ErrorLine()
    qtbot.addWidget(widget)
    return widget


def test_it_takes_no_room_until_something_fails(line: ErrorLine) -> None:
    assert line.isHidden()
    line.show_error("a.svs is empty. Copy it again.")
    assert not line.isHidden()
    assert line.text() == "a.svs is empty. Copy it again."
    line.show_error("")
    assert line.isHidden()


def test_what_was_closed_stays_closed_until_something_fails_again(line: ErrorLine, qtbot) -> None:
    line.show_error("It failed.")
    qtbot.mouseClick(line.close_button, Qt.MouseButton.LeftButton)
    assert line.isHidden()
    line.show_error("It failed.")
    assert line.isHidden()
    line.show_error("Something else failed.")
    assert not line.isHidden()
    line.close_button.click()
    line.show_failure("Something else failed.")
    assert not line.isHidden()
    line.close_button.click()
    line.show_error("")
    line.show_error("Something else failed.")
    assert not line.isHidden()


def test_names_of_files_are_no_markup(line: ErrorLine) -> None:
    line.show_error("<b>a.svs</b> is empty.")
    assert line.text() == "<b>a.svs</b> is empty."
    assert line._label.textFormat() == Qt.TextFormat.PlainText


def test_its_colours_contrast_with_each_other_on_any_theme(line: ErrorLine) -> None:
    """By WCAG, 7 to 1: both are its own, so that no theme takes part."""
    style = line.styleSheet()
    ground, ink = (re.search(rf"{name}: #(\w{{6}})", style)[1] for name in ("background", " color"))

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ground), luminance(ink)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 7
