"""The window that tests use one after another: as good as new, or closed and gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kept_window import KeptWindow, close_viewer
from napari import Viewer
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QLabel

from napari_metastasis._napari.compat import camera_of, window_of
from napari_metastasis._napari.dress import dress

pytestmark = pytest.mark.gui


def test_a_window_that_much_was_done_to_is_as_good_as_new(
    make_napari_viewer: Callable[..., Viewer],
    window_class: type,
    make_disc: Callable,
    darkness_model: Path,
    qtbot: QtBot,
) -> None:
    viewer = make_napari_viewer(show=True, keep=False)
    kept = KeptWindow(viewer)
    path, _ = make_disc(0.972)
    for _ in range(2):
        window = window_class(viewer, qtbot)
        dress(viewer)
        window_of(viewer).resize(1500, 900)
        window.open(path)
        window.use(darkness_model)
        window.scan("slide")
        window.finish()
        window.workspace.microscope.bar.ruler.setChecked(True)
        camera_of(viewer).zoom *= 3
        viewer.add_points(np.zeros((3, 2)))
        assert kept.differences()
        window.workspace.close()
        window.settle()
        assert kept.put_back() == {}


def test_what_is_not_taken_back_is_told(make_napari_viewer: Callable[..., Viewer]) -> None:
    viewer = make_napari_viewer(keep=False)
    kept = KeptWindow(viewer)
    assert kept.put_back() == {}
    label = QLabel("left", window_of(viewer))
    # It is of Qt's own making for all that can be seen.
    assert set(kept.put_back()) == {"objects", "widgets"}
    label.setParent(None)
    assert kept.put_back() == {}
    viewer.theme = "light"
    assert set(kept.put_back()) == {"theme"}


def test_one_window_is_lent_until_it_is_closed(make_napari_viewer: Callable[..., Viewer], kept_windows) -> None:
    first, second = make_napari_viewer(), make_napari_viewer()
    assert first is not second
    kept_windows.take_back(keep=True)
    assert make_napari_viewer() is first
    close_viewer(first)
    kept_windows.take_back(keep=True)
    assert make_napari_viewer() is not first
