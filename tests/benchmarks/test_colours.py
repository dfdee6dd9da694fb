"""Patches take another laboratory's colours, and keep their structure."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from colours import DENSITIES, Colours, recoloured

from napari_metastasis.slides.stains import optical_density


class Drawn:
    """Patches of two stains, drawn."""

    def __init__(self):
        rng = np.random.default_rng(1)
        stain = np.array([[0.6, 1.1, 0.4], [0.2, 0.9, 0.3]])
        amounts = rng.uniform(0.3, 1.2, (6, 24, 24, 2))
        self.patches = np.rint(255 * np.exp(-amounts @ stain)).astype(np.uint8)
        self.labels = np.array([0, 1] * 3)
        self.names = tuple("abcdef")

    def __len__(self):
        return len(self.patches)

    def read(self, index):
        return self.patches[index]


@pytest.fixture
def centres(tmp_path):
    rng = np.random.default_rng(2)
    for name, mean in (("center0_a", (0.4, 0.6, 0.4)), ("center4_a", (0.3, 0.5, 0.35))):
        values = np.exp(-np.clip(rng.normal(mean, 0.05, (40, 40, 3)), 0, None))
        (tmp_path / f"{name}.png").write_bytes(imagecodecs.png_encode(np.rint(255 * values).astype(np.uint8)))
    return tmp_path


def test_patches_get_the_centres_mean_and_spread(centres):
    changed = recoloured(Drawn(), centres, seed=3)
    assert list(changed) == ["as they are", "colours of centre 0", "colours of centre 4", *(
        f"{factor:g} of their density" for factor in DENSITIES
    )]  # fmt: skip
    for number, mean in ((0, (0.4, 0.6, 0.4)), (4, (0.3, 0.5, 0.35))):
        of_centre = changed[f"colours of centre {number}"]
        got = Colours.of(np.stack([of_centre.read(k) for k in range(6)]))
        np.testing.assert_allclose(got.mean, mean, atol=0.01)
        np.testing.assert_allclose(got.spread, 0.05, atol=0.01)
        # What was darker stays darker.
        assert np.corrcoef(of_centre.read(0)[..., 1].ravel(), Drawn().read(0)[..., 1].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("factor", DENSITIES)
def test_density_is_multiplied(centres, factor):
    paler = recoloured(Drawn(), centres, seed=3)[f"{factor:g} of their density"].read(2)
    np.testing.assert_allclose(optical_density(paler), factor * optical_density(Drawn().read(2)), atol=0.02)
