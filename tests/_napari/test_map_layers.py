"""The layers of a slide's maps: their order, and what a hidden slide shows again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_layers import SlideLayers
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Size
from napari_metastasis.scanning import PROBABILITY, MapKind, MapValues
from napari_metastasis.slides import TissueMask

pytestmark = pytest.mark.gui

FRAME = HeatmapFrame(model=ModelFrame(scale=2.0, mpp=0.5, size=Size(320, 240)), patch_px=96, stride_px=8)
KINDS = (PROBABILITY, *(MapKind(name=name, title=name, stem=name) for name in ("refined", "averaged")))


def map_of(kind: MapKind) -> MapValues:
    return MapValues(kind, FRAME, np.full(FRAME.cells.shape, 0.75, np.float32))


@pytest.fixture
def session() -> SlideSession:
    session = SlideSession(SimpleNamespace(name="slide", path=Path("slide.tif"), mpp=0.5))
    session.show_maps(map(map_of, KINDS), model_name="m", folder=None)
    return session


@pytest.fixture
def layers(make_napari_viewer, session: SlideSession) -> SlideLayers:
    viewer = make_napari_viewer()
    layers = SlideLayers(viewer, session, viewer.add_image(np.zeros((240, 320)), units=("um", "um")))
    session.show_maps(session.maps.values(), model_name="m", folder=None)
    return layers


def test_a_map_that_is_replaced_keeps_its_place(layers: SlideLayers, session: SlideSession) -> None:
    own, _, last = session.maps.values()
    session.show_maps([own, map_of(KINDS[1]), last], model_name="m", folder=None)
    assert [layer.name for layer in layers._viewer.layers][1:] == ["Tumour probability", "refined", "averaged"]
    assert list(layers.maps) == ["probability", "refined", "averaged"]


def test_what_is_replaced_while_the_slide_is_hidden_is_seen_again(layers: SlideLayers, session: SlideSession) -> None:
    mask = np.ones((60, 80), bool)
    tissue = TissueMask(mask=mask, frame=LevelFrame(downsample=8.0, mpp=0.5), fraction=1.0)
    session.show_tissue(tissue)
    layers.tissue.visible = True
    layers.maps["averaged"].visible = False
    layers.set_visible(False)
    session.show_maps(map(map_of, KINDS), model_name="m", folder=None)
    session.show_tissue(tissue)
    assert not any(layer.visible for layer in layers)
    layers.set_visible(True)
    assert layers.tissue.visible
    assert {name: layer.visible for name, layer in layers.maps.items()} == {
        "probability": True, "refined": True, "averaged": False,
    }  # fmt: skip
