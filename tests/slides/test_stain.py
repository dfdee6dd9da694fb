"""Stains of slides, measured and brought to those of a model."""

from __future__ import annotations

import numpy as np
import pytest

from napari_metastasis.geometry import LevelFrame, ModelFrame, Region, Size
from napari_metastasis.slides import TissueMask
from napari_metastasis.slides.stain import StainedReader, mean_density, stain_tables, tissue_density

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
    found = tissue_density(Drawn(), FRAME, left_half())
    np.testing.assert_allclose(found, DENSITY, rtol=0.03)


def test_without_tissue_there_is_none():
    nothing = TissueMask(np.zeros((60, 60), bool), LevelFrame(downsample=10.0, mpp=0.97), 0.0)
    assert tissue_density(Drawn(), FRAME, nothing) is None
    assert mean_density(np.full((4, 4, 3), 250, np.uint8)) is None


def test_normalised_tissue_has_the_models_density_and_white_stays_white():
    tables = stain_tables(tissue_density(Drawn(), FRAME, left_half()), REFERENCE)
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
