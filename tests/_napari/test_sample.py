"""The sample slide with the model that ships: what a newcomer does first."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari import Viewer
from pytestqt.qtbot import QtBot

from napari_metastasis.geometry import Point
from napari_metastasis.settings import DEFAULT_MODEL
from napari_metastasis.synthetic import sample_slide_path

pytestmark = pytest.mark.gui

#: Middle of the window, as a share of the slide, and µm across its shorter side: inside the node.
LOOK_AT, ACROSS_UM = (0.5, 0.5), 500.0


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sample slide, so that no result folder comes to lie in the source tree."""
    copy = tmp_path / sample_slide_path().name
    shutil.copy(sample_slide_path(), copy)
    monkeypatch.setattr("napari_metastasis.synthetic.sample_slide_path", lambda: copy)
    return copy


@pytest.fixture
def newcomer(make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, window_class: type, sample: Path) -> Any:
    """A window on the sample slide, opened by napari's own menu command."""
    window = window_class(make_napari_viewer(show=True), qtbot)
    window.viewer.open_sample("napari-metastasis", "lymph-node")
    assert window.session.slide.path == sample
    return window


def test_sample_is_opened_scanned_looked_through_and_closed(newcomer: Any, sample: Path) -> None:
    window = newcomer
    part, review = window.panel.scan_part, window.panel.results_part
    window.until(lambda: part.model.currentData() == DEFAULT_MODEL)
    slide = window.session.slide
    at = Point(LOOK_AT[0] * slide.size.width, LOOK_AT[1] * slide.size.height).to_um(slide.mpp)
    camera = window.viewer.scene.camera
    camera.center, camera.zoom = (at.y, at.x), min(window.viewer.window._qt_viewer.canvas.size) / ACROSS_UM

    window.scan("view")
    window.finish()
    session = window.session
    assert session.model_name == DEFAULT_MODEL
    answered = ~np.isnan(session.probabilities)
    assert answered.sum() * session.heatmap.frame.cell_um**2 > ACROSS_UM**2 / 2
    assert 0 <= session.slide_score <= 1
    results = sample.parent / f"{sample.stem}.metastasis"
    assert (results / "detections.csv").is_file()

    layers = window.controller.layers
    # The model that ships refines: lesions are read from the last map.
    assert list(session.maps) == ["probability", "refined"]
    read_from = session.maps["refined"].values
    for threshold in (0.3, 0.8, 0.5):
        review.threshold.setValue(threshold)
        window.until(lambda wanted=threshold: session.found.threshold == wanted)
        assert tuple(layers.heatmap.contrast_limits) == (threshold, 1.0)
        assert (layers.lesions.data > 0).sum() <= (read_from >= threshold).sum()
        assert review.table.rows.rowCount() == len(session.found.lesions)
        assert len(layers.detections.data) == len(session.found.detections)

    window.scan("slide")
    window.until(lambda: session.activity.done > 0)
    part.cancel_button.click()
    assert part.status.text().startswith("Stopping")
    window.finish()
    assert np.isnan(session.probabilities).any()
    assert (~np.isnan(session.probabilities)).sum() > answered.sum()

    # The X button: no scan, no reader and no lock is left behind.
    window.scan("slide")
    window.viewer.window._qt_window.close()
    window.until(lambda: slide.closed)
    window.until(lambda: not [each for each in threading.enumerate() if each.name.startswith(("scan", "run-roi"))])
    del window.viewer.window._qt_window  # as napari's own close() does: make_napari_viewer would close it once more
