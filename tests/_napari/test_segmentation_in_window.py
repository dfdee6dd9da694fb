"""A segmentation in the window: a map of its own, outlines and findings read from it, and a switch between both."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dark_model import dark_segmenter

from napari_metastasis._napari.slide_state import slide_state
from napari_metastasis.models import add_model, save_model
from napari_metastasis.scanning import AnsweredMap
from napari_metastasis.settings import THRESHOLD

pytestmark = [pytest.mark.gui, pytest.mark.unseen]

#: Of the segmenter; the detector has the usual one.
OWN_THRESHOLD = 0.7


@pytest.fixture
def segmenter(tmp_path, monkeypatch):
    """Keep a segmenter that answers how dark a pixel is, among the user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = dark_segmenter(mpp=0.972)
    save_model(tmp_path / "outlines.safetensors", made.network, replace(made.spec, threshold=OWN_THRESHOLD), {})
    add_model(tmp_path / "outlines.safetensors")


@pytest.fixture
def segmenting(window, make_disc, darkness_model, segmenter):  # noqa: ARG001
    """A window with a slide, whose next scan is segmented."""
    path, _ = make_disc(0.5)
    window.open(path)
    scan = window.panel.scan_part
    window.use(darkness_model)
    window.until(lambda: scan.model.chosen is not None and "segment" in scan.model.chosen.passes)
    (switch,) = scan.switches["segment"].widgets.values()
    switch.value = True
    return window


def shown_in(folder):
    """Return from which map, and at which threshold, the files of a result say that they were written."""
    shown = json.loads((folder / "run.json").read_text())["shown"]
    return shown["map"], shown["threshold"]


@pytest.mark.usefixtures("segmenter")
def test_findings_are_read_from_the_segmentation_or_from_the_scan(window, make_disc, darkness_model):
    path, phantom = make_disc(0.5)
    window.open(path)
    scan = window.panel.scan_part
    window.use(darkness_model)
    window.until(lambda: scan.model.chosen is not None and "segment" in scan.model.chosen.passes)
    (switch,) = scan.switches["segment"].widgets.values()
    assert not switch.value  # it takes as long as the scan
    switch.value = True
    window.scan("slide")
    session = window.session
    window.finish()
    window.until(lambda: session.found is not None and session.found.map == "segmented")
    assert session.coverage is not None
    assert session.coverage.whole
    layers = window.controller.layers
    assert set(layers.maps) == {"probability", "segmented"}
    assert layers.maps["segmented"].visible
    assert not layers.maps["probability"].visible
    (row,) = session.found.rows
    assert row.map == "segmented"
    assert np.hypot(row.x - phantom.center.x, row.y - phantom.center.y) < phantom.radius_px
    assert layers.lesions.data.shape == session.maps["segmented"].values.shape
    window.until(lambda: layers.outlines.done)
    ends = layers.outlines._lines(layers.outlines._work).ends
    middle = (ends.min(axis=(0, 1)) + ends.max(axis=(0, 1))) / 2
    # As far as the network's block, half of which lies on either side.
    assert np.abs(middle - (phantom.center.x, phantom.center.y)).max() < 32 * 0.972 / 0.5
    # From the scan, on its cells, and back.
    from_it = scan.alone["segmented"]
    assert from_it.isEnabled()
    assert from_it.isChecked()
    assert "from the exact outlines; else from the scan" in from_it.toolTip()
    from_it.click()
    window.until(lambda: session.found is not None and session.found.map == "probability")
    assert layers.lesions.data.shape == session.heatmap.values.shape
    assert session.coverage.whole
    from_it.click()
    window.until(lambda: session.found is not None and session.found.map == "segmented")
    # It opens again as it was left.
    window.until(lambda: window.controller._files.settled)
    window.workspace.close_slide(window.controller)
    window.open(path)
    session = window.session
    window.until(lambda: session.found is not None and session.found.map == "segmented")
    assert [row.id for row in session.found.rows] == [row.id]


def test_a_window_that_closes_at_the_end_of_a_scan_leaves_the_map_its_own_threshold(segmenting):
    """What it had shown until then was read from the scan's own map."""
    window, session = segmenting, segmenting.session
    window.scan("slide")
    window.until(lambda: session.activity.done > 0)
    assert window.controller._scan.wait(120)  # the window hears nothing of the rest
    assert session.read_map is session.heatmap
    session.suggest_threshold(session.own_thresholds["probability"])  # as every search in the middle of a scan does
    window.workspace.close()
    assert shown_in(session.folder) == ("segmented", OWN_THRESHOLD)


@pytest.mark.parametrize("chosen", [None, 0.4])
def test_findings_of_another_map_are_written_at_its_own_threshold_as_the_window_closes(segmenting, chosen):
    window, session = segmenting, segmenting.session
    if chosen is not None:
        session.set_threshold(chosen)
    window.scan("slide")
    window.finish()
    window.until(lambda: window.controller._files.settled)
    assert shown_in(session.folder) == ("segmented", chosen or OWN_THRESHOLD)
    session.set_share("segmented", 0.0)
    window.workspace.close()  # before its findings are read
    assert shown_in(session.folder) == ("probability", chosen or THRESHOLD)


def test_whole_maps_are_made_beside_the_window(segmenting, monkeypatch):
    """Of a large slide they are hundreds of megabytes."""
    whole, made_in = AnsweredMap.whole, []

    def noted(one):
        made_in.append((one.kind.name, threading.current_thread() is threading.main_thread()))
        return whole(one)

    monkeypatch.setattr(AnsweredMap, "whole", noted)
    segmenting.scan("slide")
    segmenting.finish()
    assert set(made_in) == {("probability", False), ("segmented", False)}


@pytest.mark.filterwarnings("ignore::napari_metastasis.errors.PassWarning")
@pytest.mark.usefixtures("refiner")
def test_of_maps_that_cover_each_other_one_is_seen(segmenting):
    window, scan = segmenting, segmenting.panel.scan_part
    scan.model.fill()
    window.until(lambda: scan.model.chosen is not None and "refine" in scan.model.chosen.passes)
    scan.switches["refine"].widgets["refine"].value = True
    window.scan("slide")
    window.finish()
    layers = window.controller.layers

    def seen():
        return [name for name, layer in layers.maps.items() if layer.visible]

    assert list(layers.maps) == ["probability", "refined", "segmented"]
    window.until(lambda: window.session.found is not None and window.session.found.map == "segmented")
    assert seen() == ["segmented"]
    for read in ("refined", "segmented"):
        scan.alone["segmented"].click()
        window.until(lambda read=read: window.session.found is not None and window.session.found.map == read)
        assert seen() == [read]


def test_where_outlines_are_made_is_chosen_beside_their_switch(segmenting):
    window, scan = segmenting, segmenting.panel.scan_part
    (switch,), (above,) = (forms["segment"].widgets.values() for forms in (scan.switches, scan.details))
    assert above.native.text() == "all tissue"
    for wanted in (False, True):
        switch.value = wanted
        assert above.enabled == wanted
    above.value = 0.05
    assert above.native.text() == "0.05"
    told = set()
    window.session.activity_changed.connect(lambda _: told.add(slide_state(window.session).long))
    window.scan("slide")
    window.finish()
    assert any(re.fullmatch(r"Outlining the tumour: \d+ % done", line) for line in told)
    folder = window.session.folder
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["segment"]["segment_above"] == 0.05
    # As it was made, it goes on.
    window.workspace.close_slide(window.controller)
    switch.value, above.value = False, 0.0
    window.open(Path(record["slide"]["path"]))
    window.until(lambda: switch.value)
    assert above.value == 0.05
    assert above.enabled
