"""Drawn in parts, labels look as if napari had drawn all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from napari import Viewer
from napari.layers import Labels
from pytestqt.qtbot import QtBot

from napari_metastasis._napari import label_painter
from napari_metastasis._napari.async_slicing import slice_off_the_gui_thread
from napari_metastasis._napari.label_painter import LabelPainter
from napari_metastasis.geometry import Region

pytestmark = pytest.mark.gui

SHAPE = (700, 900)


class Canvas:
    """A labels layer in a real window, its painter, and what napari was told to draw."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.layer = viewer.add_labels(np.zeros(SHAPE, np.int32))
        self.painter = LabelPainter(self.layer, contour=1)
        self.drawn: list[tuple[int, ...]] = []
        self.layer.events.labels_update.connect(lambda event: self.drawn.append(event.data.shape))

    def settle(self) -> None:
        self.qtbot.waitUntil(lambda: self.painter.done and self.layer.loaded, timeout=30_000)

    @property
    def picture(self) -> np.ndarray:
        """The texture's values: what the graphics card was given."""
        return np.array(self.layer._slice.image.view)

    def drawn_whole(self, labels: np.ndarray) -> np.ndarray:
        """The same labels, drawn by napari all at once."""
        layer = Labels(labels.copy())
        layer.contour = 1
        layer.set_view_slice()
        return np.array(layer._slice.image.view)


@pytest.fixture
def canvas(make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> Iterator[Canvas]:
    slice_off_the_gui_thread()
    canvas = Canvas(make_napari_viewer(show=True), qtbot)
    yield canvas
    canvas.painter.stop()


def some_labels(seed: int, count: int = 40) -> np.ndarray:
    """Overlapping rectangles of many names, over the borders of squares and of the map."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.int32)
    for name in range(1, count + 1):
        y, x = rng.integers(-40, SHAPE[0]), rng.integers(-40, SHAPE[1])
        labels[max(0, y) : y + rng.integers(45, 130), max(0, x) : x + rng.integers(45, 130)] = name * 37
    labels[250:260, 254:258] = 9999  # over the corner of four squares
    return labels


def test_parts_look_like_the_whole(canvas: Canvas) -> None:
    for seed in (1, 2):
        labels = some_labels(seed)
        canvas.painter.show(labels, ())
        canvas.settle()
        np.testing.assert_array_equal(canvas.layer.data, labels)
        np.testing.assert_array_equal(canvas.picture, canvas.drawn_whole(labels))
    assert canvas.layer.contour == 1
    assert not np.shares_memory(canvas.layer.data, labels)


def test_labels_rewritten_in_place(canvas: Canvas) -> None:
    labels = some_labels(1)
    canvas.painter.show(labels, ())
    canvas.settle()
    canvas.drawn.clear()
    # Of a large part that may have changed, one rectangle beside a border of squares did; its outline grows by one.
    labels[300:310, 256:266] = 5
    canvas.painter.show(labels, (Region(0, 0, 512, 512),))
    canvas.settle()
    assert canvas.drawn == [(12, 12)]
    np.testing.assert_array_equal(canvas.picture, canvas.drawn_whole(labels))


def test_nothing_is_drawn_where_nothing_changed(canvas: Canvas) -> None:
    labels = some_labels(1)
    canvas.painter.show(labels, ())
    canvas.settle()
    canvas.drawn.clear()
    refreshed: list[object] = []
    canvas.layer.events.set_data.connect(refreshed.append)
    canvas.painter.show(labels, ())
    assert canvas.painter.done
    canvas.painter.show(labels.copy(), ())  # another index with the same lesions: all squares are looked at
    canvas.settle()
    canvas.painter.show(labels.copy(), (Region(0, 0, 900, 700),))
    canvas.settle()
    assert not canvas.drawn
    assert not refreshed


def test_turns_are_short_and_the_middle_comes_first(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas.settle()
    # One square a turn, whatever the machine.
    clock = iter(range(1_000_000))
    monkeypatch.setattr(label_painter.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(label_painter, "_TURN_S", 1.5)
    labels = np.full(SHAPE, 3, np.int32)
    canvas.painter.show(labels, ())
    shown = canvas.layer.data > 0
    assert shown.sum() == 256 * 256
    assert shown[350, 450]
    assert not canvas.painter.done
    canvas.settle()
    np.testing.assert_array_equal(canvas.layer.data, labels)


def test_hidden_labels_are_there_when_they_are_shown(canvas: Canvas) -> None:
    canvas.layer.visible = False
    labels = some_labels(1)
    canvas.painter.show(labels, ())
    canvas.qtbot.waitUntil(lambda: canvas.painter.done)
    assert not canvas.drawn
    canvas.layer.visible = True
    canvas.settle()
    np.testing.assert_array_equal(canvas.picture, canvas.drawn_whole(labels))


def test_a_stopped_painter_draws_no_more(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_painter, "_TURN_S", 0.0)
    canvas.painter.show(some_labels(1), ())
    canvas.painter.stop()
    assert canvas.painter.done
    canvas.viewer.layers.remove(canvas.layer)
    canvas.qtbot.wait(50)
    assert not canvas.drawn
