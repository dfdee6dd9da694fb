"""What the benchmark of stains does to pictures, and what it counts as refused."""

from __future__ import annotations

import numpy as np
from stains import EachByItself, EveryNth, as_it_is, by_density, by_macenko

from napari_metastasis.slides.stains import TARGET, mean_density, pooled_stain_matrix


def drawn(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(3.0, 0.25, (96, 96, 2))
    amounts[:40, :, 0] *= 0.1
    return np.rint(240 * np.exp(-amounts @ np.array([(0.6, 0.72, 0.4), (0.25, 0.9, 0.4)]))).astype(np.uint8)


def test_every_way_brings_pictures_where_it_says():
    picture = drawn(1)
    pixels = [picture.reshape(-1, 3)]
    np.testing.assert_array_equal(as_it_is(pixels)(picture), picture)
    pale = by_density((0.3, 0.5, 0.2))(pixels)(picture)
    np.testing.assert_allclose(mean_density(pale), (0.3, 0.5, 0.2), atol=0.06)
    for pooled in (False, True):
        before = pooled_stain_matrix(picture, remedy="").differs_deg(TARGET)
        brought = by_macenko(TARGET, pooled=pooled)(pixels)(picture)
        assert pooled_stain_matrix(brought, remedy="").differs_deg(TARGET) < min(4.0, before / 2)


def test_every_third_patch_is_measured_on():
    class Source:
        labels, names = np.arange(7), tuple("abcdefg")

        def read(self, index):
            return index

    third = EveryNth(Source(), 3)
    assert (len(third), third.names, [third.read(k) for k in range(3)]) == (3, ("a", "d", "g"), [0, 3, 6])


def test_pictures_that_are_refused_stay_as_they_are_and_are_counted():
    own = EachByItself(by_macenko(TARGET))
    glass = np.full((96, 96, 3), 250, np.uint8)
    np.testing.assert_array_equal(own(glass), glass)
    assert own.refused == 1
    assert not np.array_equal(own(drawn(2)), drawn(2))
    assert own.refused == 1
