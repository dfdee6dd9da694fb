"""Maps of one slide are blended into what lesions are read from."""

import numpy as np
import pytest

from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, ModelFrame, Size
from napari_metastasis.scanning import (
    PROBABILITY,
    SEGMENTED,
    AnsweredMap,
    MapKind,
    MapValues,
    read_from,
    seen_answered,
    seen_values,
)

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
    np.testing.assert_allclose(seen_values(own, [(refined, 0.5)]).values, 0.5)
    assert read_from(own, [(refined, 0.5)]) == "refined"
    assert read_from(own, [(refined, 0.0)]) == "probability"


def test_lesions_are_not_read_from_what_is_no_probability(maps):
    own, refined, count = maps
    np.testing.assert_array_equal(seen_values(own, [(count, 1.0)]).values, own.values)
    np.testing.assert_array_equal(seen_values(own, [(refined, 1.0), (count, 1.0)]).values, refined.values)
    assert read_from(own, [(count, 1.0)]) == "probability"
    assert read_from(own, [(refined, 1.0), (count, 1.0)]) == "refined"


def test_lesions_are_read_from_a_segmentation_alone_on_its_own_cells(maps):
    own, refined, _ = maps
    frame = HeatmapFrame(model=ModelFrame(0.5, 0.972, Size(192, 128)), patch_px=40, stride_px=4)
    segmented = MapValues(SEGMENTED, frame, np.zeros((32, 48), np.float32))
    assert seen_values(own, [(refined, 0.5), (segmented, 1.0)]) is segmented
    seen = seen_values(own, [(refined, 0.5), (segmented, 0.0)])
    np.testing.assert_allclose(seen.values, 0.5)
    assert (seen.kind.name, seen.frame) == ("refined", own.frame)
    chunked = [AnsweredMap(one.kind, one.frame, ChunkedCells.of(one.values)) for one in (own, refined, segmented)]
    assert seen_answered(chunked[0], [(chunked[1], 0.5), (chunked[2], 1.0)]) is chunked[2]
    assert seen_answered(chunked[0], [(chunked[1], 0.5)]).kind.name == "refined"


def test_a_segmentation_of_less_than_was_scanned_takes_nothing_away(maps):
    own, refined, _ = maps
    frame = HeatmapFrame(model=ModelFrame(0.5, 0.972, Size(192, 128)), patch_px=40, stride_px=4)
    values = np.zeros((32, 48), np.float32)
    values[:, 40:] = np.nan
    segmented = MapValues(SEGMENTED, frame, values)
    others = [(refined, 1.0), (segmented, 1.0)]
    assert seen_values(own, others).kind.name == "refined"
    # Where there is no tissue it owes no answer; nor where the scan has none either.
    tissue = np.zeros(values.shape, bool)
    tissue[:, :40] = True
    assert seen_values(own, others, lambda _: tissue) is segmented
    own.values[:, 2:] = np.nan
    assert seen_values(own, others) is segmented
    # One without any answer is no result.
    values[:] = np.nan
    own.values[:] = np.nan
    assert seen_values(own, others).kind.name == "refined"


def test_how_lesions_are_read_is_kept_with_a_map_and_earlier_maps_are_blended():
    assert MapKind.from_json(SEGMENTED.to_json()) == SEGMENTED
    assert "reading" not in REFINED.to_json()
    assert not MapKind.from_json(REFINED.to_json()).stands_alone
