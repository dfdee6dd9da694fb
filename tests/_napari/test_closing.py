"""Whatever goes away in the middle of a scan: nothing raises, no thread stays, and the next scan goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_metastasis import slides
from napari_metastasis.scanning import MapStore
from napari_metastasis.workflows.scan import heatmap_path

pytestmark = pytest.mark.gui

#: Threads of ours, by the names that they are given.
OURS = ("scan", "lesions", "tissue", "earlier", "open-slide", "close-slide", "read-roi", "run-roi")


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(OURS)]


@pytest.fixture
def scanning(window, make_disc: Callable, lingering_model: Path):
    """A window in the middle of a scan of many pieces, and the slide's result folder."""
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(lingering_model, roi_px=128)
    window.panel.scan_part.advanced.widgets["tissue_only"].value = False
    window.scan("slide")
    window.until(lambda: window.session.activity.done > 0)
    return window, path.parent / "disc.metastasis"


def answered(folder: Path) -> int:
    with MapStore.open(heatmap_path(folder)) as heatmap:
        return int(heatmap.done.sum())


def test_window_closed_mid_scan(scanning) -> None:
    window, folder = scanning
    session = window.session
    window.workspace.close()
    assert not our_threads()
    assert session.closed
    assert session.slide.closed
    assert answered(folder) >= int((~np.isnan(session.probabilities)).sum()) > 0
    window.viewer.close()


def test_viewer_closed_mid_scan(scanning) -> None:
    window, folder = scanning
    window.viewer.close()
    window.until(lambda: not our_threads())
    assert answered(folder) > 0


def test_slide_removed_mid_scan(scanning) -> None:
    window, folder = scanning
    slide = window.session.slide
    window.viewer.layers.remove(window.controller.layers.slide)
    assert len(window.viewer.layers) == 0
    assert window.workspace.current is None
    assert not window.panel.scan_part.slide_button.isEnabled()
    window.until(lambda: slide.closed)
    window.until(lambda: not our_threads())
    before = answered(folder)
    assert before > 0
    # The same scan goes on from there.
    window.open(slide.path)
    window.until(lambda: window.session.probabilities is not None)
    window.panel.scan_part.advanced.widgets["roi_px"].value = 512
    window.scan("slide")
    window.finish()
    assert answered(folder) == window.session.probabilities.size > before


def test_heatmap_removed_mid_scan(scanning) -> None:
    window, _ = scanning
    layers = window.controller.layers
    window.viewer.layers.remove(layers.heatmap)
    window.finish()
    assert layers.heatmap is None
    assert np.isnan(window.session.probabilities).any()
    # Scanning again brings it back.
    window.panel.scan_part.advanced.widgets["roi_px"].value = 512
    window.scan("slide")
    window.finish()
    assert layers.heatmap in window.viewer.layers


def test_second_slide_has_its_own_session(scanning, make_disc: Callable) -> None:
    window, _ = scanning
    first = window.controller
    path, _ = make_disc(0.972, name="second")
    window.open(path)
    second = window.controller
    assert second is not first
    assert second.session is not first.session
    assert second.session.probabilities is None
    assert not first.layers.slide.visible
    assert not second.busy
    window.panel.results_part.threshold.setValue(0.7)
    assert second.session.threshold == 0.7
    assert first.session.threshold != 0.7
    window.workspace.show(first)
    assert first.layers.slide.visible
    assert first.layers.heatmap.visible
    assert not second.layers.slide.visible
    assert window.panel.slide_part.name.text() == "disc"
    first.cancel()
    window.until(lambda: not first.busy)


def test_window_closed_while_a_slide_is_opened(window, make_disc: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = make_disc(0.5)
    asked, may_open, opened = threading.Event(), threading.Event(), []

    def open_late(path: Path, mpp: float | None = None, **options: bool) -> slides.Slide:
        asked.set()
        may_open.wait(30)
        opened.append(open_slide(path, mpp, **options))
        return opened[0]

    open_slide = slides.open_slide
    monkeypatch.setattr(slides, "open_slide", open_late)
    window.workspace.open([path])
    assert asked.wait(30)
    window.workspace.close()
    may_open.set()
    window.until(lambda: bool(opened) and opened[0].closed)
    assert not window.workspace.controllers


def test_all_layers_selected_and_deleted(window, make_disc: Callable) -> None:
    window.open(make_disc(0.5)[0])
    window.open(make_disc(0.972, name="second")[0])
    window.viewer.layers.select_all()
    window.viewer.layers.remove_selected()
    window.until(lambda: not window.viewer.layers)
    assert not window.workspace.controllers
