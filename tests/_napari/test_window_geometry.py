"""What users do to layers by hand: the right region is scanned, or the layer is put back; nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import _layer_actions as actions

from napari_metastasis._napari.session import METADATA_KEY

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("name", "value"),
    [("translate", (500, -300)), ("scale", (2.0, 2.0)), ("rotate", 30), ("affine", np.diag([2.0, 1.0, 1.0]))],
)
def test_a_slide_that_is_moved_is_put_back(window, make_disc, monkeypatch, name, value) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_metastasis._napari.slide_layers.show_info", told.append)
    path, _ = make_disc(0.5)
    window.open(path)
    layer = window.controller.layers.slide
    before = np.asarray(layer.data_to_world((100, 200)))
    setattr(layer, name, value)
    np.testing.assert_allclose(layer.data_to_world((100, 200)), before)
    assert len(told) == 1
    assert "put back" in told[0]
    # What changes nothing is not remarked on.
    layer.translate = layer.translate
    assert len(told) == 1


def test_a_copy_of_a_slides_layer_goes_with_it(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    layers, slide = window.viewer.layers, window.controller.layers.slide
    layers.selection = {slide}
    actions._duplicate_layer(layers)
    copies = [layer for layer in layers if METADATA_KEY in layer.metadata and layer is not slide]
    assert len(copies) == 1
    layers.remove(slide)
    window.until(lambda: not window.workspace.controllers)
    assert not [layer for layer in layers if METADATA_KEY in layer.metadata]


def test_a_viewer_with_two_slides_closes(window, make_disc) -> None:
    for name in ("one", "two"):
        path, _ = make_disc(0.5, name)
        window.open(path)
    assert len(window.workspace.controllers) == 2
    window.viewer.close()
    window.until(lambda: not window.workspace.controllers)


def test_the_slide_before_is_shown_when_one_is_closed(window, make_disc) -> None:
    for name in ("one", "two"):
        path, _ = make_disc(0.5, name)
        window.open(path)
    one, two = window.workspace.controllers
    assert not one.layers.slide.visible
    window.viewer.layers.remove(two.layers.slide)
    assert window.workspace.current is one
    window.until(lambda: one.layers.slide.visible)
