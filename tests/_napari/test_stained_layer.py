"""The slide as its dyes show it: beside the window, over the slide at every level, and gone with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image
from napari.layers import _layer_actions as actions

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid
from napari_metastasis.slides.stains import stain_picture

pytestmark = pytest.mark.gui

HAEMATOXYLIN, EOSIN = np.array((0.65, 0.70, 0.29)), np.array((0.15, 0.90, 0.41))


@pytest.fixture(scope="module")
def two_dyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a slide of 1.5 x 1 mm with stroma on its left half and nuclei on its right, and glass around."""
    rng = np.random.default_rng(4)
    amounts = rng.gamma(6.0, 0.1, (1800, 2800, 1)) + 0.2
    pixels = np.full((2000, 3000, 3), 243, np.uint8)
    dyes = np.where(np.arange(2800)[:, None] < 1400, EOSIN, HAEMATOXYLIN)
    pixels[100:1900, 100:2900] = np.clip(240 * np.exp(-amounts * dyes), 0, 255)
    path = tmp_path_factory.mktemp("dyes") / "dyes.tif"
    write_pyramid(path, pixels, size=Size(3000, 2000), mpp=0.5)
    return path


def choose(window, title: str) -> None:
    stains = window.panel.slide_part.stains
    stains.setCurrentIndex(stains.findText(title))
    stains.activated.emit(stains.currentIndex())


def shown(window) -> Image | None:
    return window.controller.layers.stained


def test_dyes_lie_over_the_slide_at_every_level_and_go_with_it(house, two_dyes: Path, make_disc) -> None:
    house.open(two_dyes)
    layers, slide = house.controller.layers, house.session.slide
    before = list(house.viewer.layers)
    choose(house, "Haematoxylin")
    house.until(lambda: shown(house) is not None)
    layer = shown(house)
    # Over the slide and under all else; the slide stays chosen.
    order = list(house.viewer.layers)
    assert order.index(layer) == order.index(layers.slide) + 1
    assert [one for one in order if one is not layer] == before
    assert house.viewer.layers.selection.active is layers.slide
    assert len(layer.data) == len(layers.slide.data) == len(slide.levels)
    stains = house.controller.stained._stains
    for level, (own, dyed) in enumerate(zip(layers.slide.data, layer.data, strict=True)):
        assert (dyed.shape, dyed.dtype) == (own.shape, own.dtype)
        # Lazily, but for the coarsest, which napari reads whole on the GUI thread.
        assert isinstance(dyed, np.ndarray) == (level == len(slide.levels) - 1)
        expected = stain_picture(np.asarray(own), stains, "haematoxylin")
        np.testing.assert_array_equal(np.asarray(dyed), expected, err_msg=f"level {level}")
    corners = np.array([(0, 0), (slide.size.height, slide.size.width)])
    for corner in corners:
        assert layer.data_to_world(corner)[-2:] == layers.slide.data_to_world(corner)[-2:]
    assert [str(unit) for unit in layer.units] == [str(unit) for unit in layers.slide.units]
    # Nuclei keep their dye, stroma has none.
    picture = np.asarray(layer.data[0])
    assert picture[900:1000, 500:600].mean() > 225
    assert picture[900:1000, 2200:2300].mean() < 190

    choose(house, "Eosin")
    house.until(lambda: layer.name == "Eosin")
    assert shown(house) is layer
    assert list(house.viewer.layers) == order
    picture = np.asarray(shown(house).data[0])
    assert picture[900:1000, 500:600].mean() < 190
    assert picture[900:1000, 2200:2300].mean() > 225

    # Taken away by hand, the list says so; chosen again, it comes again.
    house.viewer.layers.remove(shown(house))
    assert house.panel.slide_part.stains.currentText() == "As they are"
    choose(house, "Normalised")
    house.until(lambda: shown(house) is not None)
    choose(house, "As they are")
    assert list(house.viewer.layers) == before
    choose(house, "Normalised")
    house.until(lambda: shown(house) is not None)
    normalised = shown(house)

    # Another slide hides it, and has none of its own; black on white, it has no two dyes.
    other, _ = make_disc(0.5)
    house.open(other)
    assert not normalised.visible
    assert house.panel.slide_part.stains.currentText() == "As they are"
    choose(house, "Eosin")
    house.until(lambda: "cannot be told apart on this slide" in house.session.activity.error)
    assert house.panel.slide_part.stains.currentText() == "As they are"
    assert shown(house) is None
    house.workspace.close_slide(house.controller)
    house.until(lambda: normalised.visible)
    assert house.panel.slide_part.stains.currentText() == "Normalised"
    # A copy of it reads the file of the slide, which closes.
    house.viewer.layers.selection.active = normalised
    actions._duplicate_layer(house.viewer.layers)
    assert len(house.viewer.layers) == len(before) + 2
    house.workspace.close_slide(house.controller)
    house.until(lambda: not house.viewer.layers)
    house.until(lambda: slide.closed)
