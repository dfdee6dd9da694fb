"""Which levels a slide shows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_metastasis.geometry import Size
from napari_metastasis.slides.pyramid import plan_pyramid, snapped_downsamples


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(4443, 3567), (2221, 1783)], [1, 2]),  # cut, as Aperio does
        ([(46000, 32914), (11500, 8228), (2875, 2057)], [1, 4, 16]),
        ([(1001, 501), (501, 251), (251, 126)], [1, 2, 4]),  # rounded up, as this package does
        ([(1000, 1000), (333, 333)], [1, 3]),
        ([(1000, 1000), (625, 625)], [1, 1.6]),  # no whole number explains it
    ],
)
def test_rounded_sizes_give_whole_downsamples(sizes, expected):
    assert snapped_downsamples(tuple(Size(*size) for size in sizes)) == pytest.approx(expected)


def test_steps_of_four_get_the_level_between():
    plan = plan_pyramid((Size(40000, 30000), Size(10000, 7500), Size(2500, 1875)), thumbnail_px=1024)
    assert [(level.downsample, level.stored) for level in plan] == [
        (1, True), (2, False), (4, True), (8, False), (16, True), (32, False), (64, False),
    ]  # fmt: skip
    assert [level.source for level in plan] == [0, 0, 1, 1, 2, 2, 2]
    assert plan[-1].size == Size(625, 469)


def test_a_small_slide_needs_nothing():
    assert len(plan_pyramid((Size(800, 600),), thumbnail_px=1024)) == 1


@given(
    width=st.integers(1, 300_000),
    height=st.integers(1, 300_000),
    steps=st.lists(st.sampled_from([2, 3, 4, 8]), max_size=3),
    thumbnail_px=st.integers(64, 4096),
)
def test_every_pyramid_ends_small_in_small_steps(width, height, steps, thumbnail_px):
    sizes = [Size(width, height)]
    for step in steps:
        if sizes[-1].width // step and sizes[-1].height // step:
            sizes.append(Size(sizes[-1].width // step, sizes[-1].height // step))
    # Levels of a few pixels say nothing of the scale they were made at.
    sizes = [size for size in sizes if size == sizes[0] or min(size.width, size.height) >= 64]
    plan = plan_pyramid(tuple(sizes), thumbnail_px=thumbnail_px)
    ratios = [b.downsample / a.downsample for a, b in itertools.pairwise(plan)]
    assert all(1 < ratio < 2.9 for ratio in ratios)
    assert max(plan[-1].size.width, plan[-1].size.height) <= max(thumbnail_px, 1)
    assert sum(level.stored for level in plan) == len(sizes)
