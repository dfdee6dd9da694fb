"""What is looked at next is read while a person looks at what comes before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_metastasis._napari import reading_ahead
from napari_metastasis._napari.reading_ahead import ReadingAhead, read_work
from napari_metastasis.geometry import Point
from napari_metastasis.slides import open_slide
from napari_metastasis.slides.cache import TileCache


def test_tiles_that_were_read_ahead_are_not_decoded_again(
    make_disc: Callable[..., tuple[Path, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make_disc(0.5)
    asked: list[object] = []
    keep = TileCache.keep

    def counted(self: TileCache, key: object, tile: np.ndarray) -> np.ndarray:
        asked.append(key)
        return keep(self, key, tile)

    monkeypatch.setattr(TileCache, "keep", counted)
    with open_slide(path) as slide:
        for px, level in ((1.0, 0), (2.3, 1)):
            read_work(slide, Point(1000, 900), 600.0, px, lambda: False)
            # Opening has looked at all of the coarser levels of so small a slide.
            assert asked or level
            asked.clear()
            scale = slide.levels[level].downsample
            rows, columns = (slice(round((at - 250) / scale), round((at + 250) / scale)) for at in (900, 1000))
            seen = np.asarray(slide.levels[level].array[rows, columns])
            assert seen.shape[0] == round(500 / scale)
            assert not asked
        # Of what lies past the slide, nothing is read.
        read_work(slide, Point(-5000, -5000), 600.0, 1.0, lambda: False)
        assert not asked


@pytest.mark.gui
def test_of_several_places_that_wait_the_last_is_read(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(reading_ahead, "read_work", lambda _slide, middle, *_: seen.append(middle.x))
    parent = reading_ahead.QObject()
    ahead = ReadingAhead(parent)
    for x in (1.0, 2.0, 3.0):
        ahead.read(None, Point(x, 0), across_px=10, px=1)
    qtbot.waitUntil(lambda: not ahead.busy, timeout=10_000)
    assert seen == [1.0, 3.0]
    assert ahead.close() is None
