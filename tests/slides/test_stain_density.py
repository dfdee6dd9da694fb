"""Stains of slides, measured and brought to those of a model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_metastasis.geometry import LevelFrame, ModelFrame, Region, Size
from napari_metastasis.slides import TissueMask
from napari_metastasis.slides.stains import (
    StainedReader,
    mean_density,
    nuclear_tint,
    stain_tables,
    swap_note,
    tissue_pixels,
)

DENSITY = (0.3, 0.55, 0.25)
REFERENCE = (0.57, 1.1, 0.57)


class Drawn:
    """Stained tissue of a known mean density on the left half, glass on the right."""

    def __init__(self):
        rng = np.random.default_rng(2)
        amounts = rng.uniform(0.6, 1.4, (600, 300, 1))
        self.pixels = np.full((600, 600, 3), 244, np.uint8)
        self.pixels[:, :300] = np.rint(255 * np.exp(-amounts * np.array(DENSITY)))

    def read(self, frame, region):
        del frame
        window = np.full((region.height, region.width, 3), 255, np.uint8)
        inside = region.intersection(Region(0, 0, 600, 600))
        if inside is not None:
            target = Region(inside.x - region.x, inside.y - region.y, inside.width, inside.height)
            window[target.slices] = self.pixels[inside.slices]
        return window


FRAME = ModelFrame(scale=1.0, mpp=0.97, size=Size(600, 600))


def left_half():
    mask = np.zeros((60, 60), bool)
    mask[:, :29] = True
    return TissueMask(mask, LevelFrame(downsample=10.0, mpp=0.97), 0.5)


def test_density_is_that_of_the_tissue():
    found = mean_density(tissue_pixels(Drawn(), FRAME, left_half()))
    np.testing.assert_allclose(found, DENSITY, rtol=0.03)


def test_without_tissue_there_is_none():
    nothing = TissueMask(np.zeros((60, 60), bool), LevelFrame(downsample=10.0, mpp=0.97), 0.0)
    assert tissue_pixels(Drawn(), FRAME, nothing) is None
    assert mean_density(np.full((4, 4, 3), 250, np.uint8)) is None


def test_normalised_tissue_has_the_models_density_and_white_stays_white():
    tables = stain_tables(mean_density(tissue_pixels(Drawn(), FRAME, left_half())), REFERENCE)
    reader = StainedReader(Drawn(), tables)
    window = reader.read(FRAME, Region(-10, 50, 280, 200))
    assert (window[:, :10] == 255).all()
    np.testing.assert_allclose(mean_density(window[:, 10:]), REFERENCE, rtol=0.03)
    assert window.dtype == np.uint8
    # One pixel's colours decide its new ones, wherever it is read from.
    np.testing.assert_array_equal(reader.read(FRAME, Region(0, 60, 50, 50)), window[10:60, 10:60])


@pytest.mark.parametrize("density", [REFERENCE, (0.1, 2.0, 0.5)])
def test_what_is_like_the_model_stays_as_it_is(density):
    np.testing.assert_array_equal(stain_tables(density, density)[:, 1:], np.tile(np.arange(1, 256), (3, 1)))


#: Haematoxylin and eosin: optical densities of red, green and blue.
STAINS = np.array([(0.65, 0.70, 0.29), (0.12, 0.95, 0.28)])


def tissue(nuclei=0.15):
    """Eosin everywhere, and haematoxylin in a share of the pixels."""
    rng = np.random.default_rng(4)
    amounts = np.stack([rng.uniform(0.8, 1.6, 40_000) * (rng.random(40_000) < nuclei), rng.uniform(0.2, 0.8, 40_000)])
    return np.rint(255 * np.exp(-amounts.T @ STAINS)).astype(np.uint8)


def test_nuclei_are_bluer_than_the_rest_until_red_and_blue_are_exchanged():
    pixels = tissue()
    tint = nuclear_tint(pixels)
    assert tint > 0.1
    assert nuclear_tint(pixels[:, ::-1]) == pytest.approx(-tint)
    assert swap_note(tint) == ""
    assert "--swap-red-blue" in swap_note(-tint)


def test_glass_and_gray_say_nothing_of_red_and_blue():
    assert nuclear_tint(np.full((9000, 3), 250, np.uint8)) is None
    assert swap_note(None) == ""
    gray = np.repeat(np.random.default_rng(1).integers(60, 200, (9000, 1)), 3, axis=1).astype(np.uint8)
    assert swap_note(nuclear_tint(gray)) == ""


def test_real_regions_are_taken_for_what_they_are(shared_data):
    """None of them looks exchanged; each does once it is."""
    for path in sorted((shared_data / "regions" / "images").glob("*.jpg")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert swap_note(nuclear_tint(pixels)) == "", path.name
        assert swap_note(nuclear_tint(pixels[..., ::-1])), path.name
