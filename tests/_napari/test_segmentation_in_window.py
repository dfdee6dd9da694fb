"""A segmentation in the window: a map of its own, outlines and findings read from it, and a switch between both."""

from __future__ import annotations

import numpy as np
import pytest
from dark_model import dark_segmenter

from napari_metastasis.models import add_model, save_model

pytestmark = pytest.mark.gui


@pytest.fixture
def segmenter(tmp_path, monkeypatch):
    """Keep a segmenter that answers how dark a pixel is, among the user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = dark_segmenter(mpp=0.972)
    save_model(tmp_path / "outlines.safetensors", made.network, made.spec, {})
    add_model(tmp_path / "outlines.safetensors")


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
