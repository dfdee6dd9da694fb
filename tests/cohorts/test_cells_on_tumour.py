"""Which cells lie on tumour, against every cell asked alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_metastasis.annotations import Annotation, AnnotationSet
from napari_metastasis.cohorts.cells import cells_on_tumour
from napari_metastasis.cohorts.reference import NoTumour, OutlineReference
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size


def outlined(*squares):
    """Return squares of (left, top, side) in level-0 pixels."""
    rings = [
        np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], dtype=float) for x, y, side in squares
    ]
    return OutlineReference(
        AnnotationSet(tuple(Annotation.of_rings(name="a", group="_0", exterior=ring) for ring in rings))
    )


@given(
    x=st.integers(-50, 1500),
    y=st.integers(-50, 900),
    side=st.integers(1, 700),
    scale=st.sampled_from([1.0, 2.0, 3.7]),
    patch_px=st.sampled_from([16, 97, 244]),
)
def test_every_cell_is_asked_at_its_centre(x, y, side, scale, patch_px):
    reference = outlined((x, y, side), (300, 200, 40))
    # More cells than are asked together.
    model = ModelFrame(scale=scale, mpp=0.25, size=Size(round(1700 / scale), round(1100 / scale)))
    frame = HeatmapFrame(model=model, patch_px=patch_px, stride_px=8)
    drawn = reference.over(model, Region(0, 0, model.size.width + patch_px, model.size.height + patch_px))
    first = patch_px // 2 - frame.padding_px
    rows, columns = (first + 8 * np.arange(count) for count in frame.cells.shape)
    expected = drawn[np.ix_(rows, columns)]
    np.testing.assert_array_equal(cells_on_tumour(reference, frame), expected)


@pytest.mark.parametrize("patch_px", [96, 97, 419])
def test_marked_cells_lie_where_they_are_drawn(patch_px):
    model = ModelFrame(scale=2.0, mpp=0.25, size=Size(800, 600))
    frame = HeatmapFrame(model=model, patch_px=patch_px, stride_px=16)
    rows, columns = np.nonzero(cells_on_tumour(outlined((400, 320, 320)), frame))
    centres = [frame.cell_center(column, row) for column, row in zip(columns, rows, strict=True)]
    assert len(centres) == 100
    # A centre may lie on the outline: as far beside it as a model pixel is wide.
    assert all(398 <= centre.x <= 722 and 318 <= centre.y <= 642 for centre in centres)


def test_a_normal_slide_is_not_drawn():
    model = ModelFrame(scale=1.0, mpp=0.5, size=Size(100, 70))
    frame = HeatmapFrame(model=model, patch_px=16, stride_px=16)
    assert not cells_on_tumour(NoTumour(), frame).any()
    assert cells_on_tumour(NoTumour(), frame).shape == frame.cells.shape
