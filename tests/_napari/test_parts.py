"""Small pieces of the panel."""

from __future__ import annotations

import pytest
from qtpy.QtGui import QPaintEvent

from napari_metastasis._napari.parts import ProgressBar

pytestmark = pytest.mark.gui


class CountedBar(ProgressBar):
    """Counts how often it is painted."""

    painted = 0

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        self.painted += 1
        super().paintEvent(event)


def test_a_bar_that_does_not_know_how_far_it_is_costs_nothing(qtbot) -> None:
    bar = CountedBar()
    qtbot.addWidget(bar)
    with qtbot.waitExposed(bar):
        bar.show()
    bar.show_progress(0, 0)
    qtbot.waitUntil(lambda: bar.painted > 0)
    before = bar.painted
    qtbot.wait(500)
    assert bar.painted - before <= 2
    bar.show_progress(3_000_000_000, 4_000_000_000)
    assert bar.value() / bar.maximum() == 0.75
