"""The table of lesions, as a person sits at it."""

from __future__ import annotations

import dataclasses

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt

from napari_metastasis._napari.lesion_table import LesionTable
from napari_metastasis._napari.parts import area_text
from napari_metastasis._napari.ranking import Ranking
from napari_metastasis.lesions import LesionReview, LesionRow, Reviewed

pytestmark = pytest.mark.gui


def lesion(number: int, *, length_mm: float, cut_by_edge: bool = False) -> LesionRow:
    return LesionRow(
        id=number,
        x=0,
        y=0,
        probability=1 - length_mm / 10,
        area_mm2=0.02 * length_mm,
        length_mm=length_mm,
        detections=1,
        map="probability",
        cut_by_edge=cut_by_edge,
    )


def shown(table: LesionTable, column: int) -> list[str]:
    return [table.rows.data(table.rows.index(row, column)) for row in range(table.rows.rowCount())]


@pytest.fixture
def table(qtbot: QtBot) -> LesionTable:
    made = LesionTable()
    qtbot.addWidget(made)
    made.rows.show([lesion(number, length_mm=length) for number, length in ((4, 0.1), (1, 2.5), (7, 0.7))])
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
    assert shown(table, 3)[0] == "0.0020"
    assert [area_text(area) for area in (0.0014, 0.014, 0.37, 4.2, 41.0)] == ["0.0014", "0.014", "0.37", "4.20", "41.0"]


def test_a_click_on_a_heading_sorts_and_the_third_one_brings_the_order_of_the_files_back(
    table: LesionTable, qtbot: QtBot
) -> None:
    heading = table.horizontalHeader()
    assert shown(table, 0) == ["4", "1", "7"]

    def click(column: int) -> list[str]:
        at = QPoint(heading.sectionViewportPosition(column) + heading.sectionSize(column) // 2, heading.height() // 2)
        qtbot.mouseClick(heading.viewport(), Qt.MouseButton.LeftButton, pos=at)
        return shown(table, 0)

    assert click(2) in (["4", "7", "1"], ["1", "7", "4"])
    other = click(2)
    assert other in (["4", "7", "1"], ["1", "7", "4"])
    assert click(2) == ["4", "1", "7"]
    # Another threshold shows other findings in the order that a person chose.
    by_number = click(0)
    table.rows.show([lesion(number, length_mm=0.1) for number in (5, 2, 9)])
    assert shown(table, 0) == sorted(shown(table, 0), reverse=by_number[0] == "7")


def test_a_lesion_that_the_edge_cuts_may_be_larger(table: LesionTable) -> None:
    table.rows.show([lesion(1, length_mm=0.7, cut_by_edge=True), lesion(2, length_mm=0.7)])
    assert shown(table, 1) == ["Micro or larger", "Micro"]
    assert shown(table, 2) == ["≥ 0.70", "0.70"]
    assert "cut by the scanned area" in table.rows.data(table.rows.index(0, 0), Qt.ItemDataRole.ToolTipRole)


def test_findings_are_ranked_by_what_is_asked_for_and_those_that_are_decided_come_last(table: LesionTable) -> None:
    rows = table.rows
    made = [
        dataclasses.replace(lesion(number, length_mm=length), probability=probability)
        for number, length, probability in ((1, 0.1, 0.9), (2, 2.5, 0.5), (3, 0.7, 0.35), (4, 0.3, 0.99))
    ]
    decided = Reviewed({2: LesionReview("confirmed"), 4: LesionReview(is_clear=False)})
    rows.show(made, reviewed=decided, threshold=0.4)
    assert shown(table, 0) == ["1", "2", "3", "4"]
    assert shown(table, 5) == ["", "✓", "", "?"]
    for ranking, expected in (
        (Ranking.SIZE, [3, 4, 1, 2]),
        (Ranking.PROBABILITY, [4, 1, 3, 2]),
        (Ranking.DOUBT, [3, 1, 4, 2]),
        (Ranking.FILES, [1, 2, 3, 4]),
    ):
        rows.rank(ranking)
        assert [one.id for one in rows.lesions] == expected
        assert [rows.row_of(number) for number in expected] == [0, 1, 2, 3]
    # What is said by now does not move what a person looks at.
    rows.rank(Ranking.SIZE)
    rows.say(Reviewed({3: LesionReview("rejected")}), ())
    assert [one.id for one in rows.lesions] == [3, 4, 1, 2]
    assert [rows.next_pending(row) for row in (-1, 1, 3)] == [1, 2, 1]
