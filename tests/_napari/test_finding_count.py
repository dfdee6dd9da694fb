"""The line that says what counts, beside the window."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import shapely
from qtpy.QtCore import QObject

from napari_metastasis._napari import finding_count
from napari_metastasis._napari.finding_count import FindingCount
from napari_metastasis._napari.lesion_reviews import LesionReviews
from napari_metastasis._napari.session import SlideSession
from napari_metastasis.annotations import Correction, Corrections
from napari_metastasis.slides import open_slide

pytestmark = pytest.mark.gui


def test_what_was_taken_back_while_it_was_counted_is_not_told(make_disc: Callable, qtbot, monkeypatch) -> None:
    counted, go_on, parent = finding_count._count_work, threading.Event(), QObject()

    def slow(*arguments):
        told = counted(*arguments)
        go_on.wait(10)
        return told

    monkeypatch.setattr(finding_count, "_count_work", slow)
    with open_slide(make_disc(0.5)[0]) as slide:
        session = SlideSession(slide)
        count = FindingCount(session, LesionReviews(session, parent), parent)
        drawn = Correction(key="a", label="tumour", shape_px=shapely.box(100, 100, 900, 900))
        for taken_back, said in ((False, "1 micro-metastasis; 1 added"), (True, "")):
            go_on.clear()
            session.corrections.do("Draw", Corrections.of([drawn]))
            qtbot.waitUntil(lambda: count._worker.running)
            if taken_back:
                session.corrections.undo()
            go_on.set()
            qtbot.waitUntil(lambda: not count.running)
            assert session.counted == said
            session.corrections.undo()
