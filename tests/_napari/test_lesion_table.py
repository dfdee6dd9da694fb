"""The table of lesions, as a person sits at it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_metastasis._napari.lesion_table import LesionTable
from napari_metastasis._napari.parts import area_text

pytestmark = pytest.mark.gui


@pytest.fixture
def table(qtbot: QtBot) -> LesionTable:
    made = LesionTable()
    qtbot.addWidget(made)
    lesion = {"size_class": "itc", "length_mm": 0.1, "probability": 0.9}
    made.rows.show([SimpleNamespace(id=number, area_mm2=0.002 * number, **lesion) for number in (1, 2, 3)])
    made.show()
    made.setFocus()
    return made


def test_arrow_keys_and_enter_go_to_a_lesion(table: LesionTable, qtbot: QtBot) -> None:
    gone = []
    table.clicked.connect(lambda index: gone.append(index.row()))
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualRect(table.rows.index(0, 0)).center())
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Up, Qt.Key.Key_Return):
        qtbot.keyClick(table, key)
    # The third press finds no further row, and goes nowhere.
    assert gone == [0, 1, 2, 1, 1]


def test_small_areas_are_not_nothing(table: LesionTable) -> None:
    assert table.rows.data(table.rows.index(0, 2)) == "0.0020"
    assert [area_text(area) for area in (0.0014, 0.014, 0.37, 4.2, 41.0)] == ["0.0014", "0.014", "0.37", "4.20", "41.0"]
