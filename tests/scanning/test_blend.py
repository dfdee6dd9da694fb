"""Maps of one slide are blended into what lesions are read from."""

import numpy as np
import pytest

from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Size
from napari_metastasis.scanning import PROBABILITY, MapKind, MapValues, blend_all, read_from

COUNT = MapKind(name="mitoses", title="Mitoses", stem="mitoses", unit="1/mm²")
REFINED = MapKind(name="refined", title="Refined probability", stem="refined")


@pytest.fixture
def maps():
    frame = HeatmapFrame(model=ModelFrame(1.0, 0.972, Size(96, 64)), patch_px=32, stride_px=32)

    def of(kind, values):
        return MapValues(kind, frame, np.full((2, 3), values, dtype=np.float32))

    return of(PROBABILITY, 0.2), of(REFINED, 0.8), of(COUNT, 40)


def test_each_map_takes_its_share_of_those_before(maps):
    own, refined, _ = maps
    np.testing.assert_allclose(blend_all(own.values, own.frame, [(refined, 0.5)]), 0.5)
    assert read_from(own, [(refined, 0.5)]) == "refined"
    assert read_from(own, [(refined, 0.0)]) == "probability"


def test_lesions_are_not_read_from_what_is_no_probability(maps):
    own, refined, count = maps
    np.testing.assert_array_equal(blend_all(own.values, own.frame, [(count, 1.0)]), own.values)
    np.testing.assert_array_equal(blend_all(own.values, own.frame, [(refined, 1.0), (count, 1.0)]), refined.values)
    assert read_from(own, [(count, 1.0)]) == "probability"
    assert read_from(own, [(refined, 1.0), (count, 1.0)]) == "refined"
