"""Where tumour is, asked at windows: outlines and masks against whole-slide drawings of them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tifffile
from cohort_files import write_mask, write_outline
from hypothesis import given
from hypothesis import strategies as st

from napari_metastasis.annotations import (
    Annotation,
    AnnotationSet,
    MaskFile,
    rasterize,
    read_asap_xml,
)
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import (
    MaskReference,
    NoTumour,
    OutlineReference,
    open_reference,
    tumour_value_of,
)
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size

DISC_UM, RADIUS_UM = (300.0, 220.0), 60.0
SLIDE = Size(1400, 1100)


def star(rng, center, radius, corners):
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.3, 1.0, corners)
    return np.c_[center[0] + reach * np.cos(angle), center[1] + reach * np.sin(angle)]


def some_outlines(seed):
    rng = np.random.default_rng(seed)
    return AnnotationSet(
        (
            Annotation.of_rings(
                name="a",
                group="_0",
                exterior=star(rng, (400, 380), 350, 90),
                holes=(star(rng, (380, 380), 160, 40), star(rng, (480, 300), 60, 12)),
            ),
            # An unordered ring crosses itself.
            Annotation.of_rings(name="b", group="_1", exterior=rng.uniform(600, 900, (17, 2))),
            Annotation.of_rings(name="c", group="_0", exterior=star(rng, (1100, 800), 3, 5)),
            Annotation.of_rings(name="normal", group="normal", exterior=star(rng, (900, 300), 300, 9)),
        )
    )


def grid_of(frame, cell_px):
    return HeatmapFrame(model=frame, patch_px=cell_px, stride_px=cell_px)


@given(
    seed=st.integers(0, 500), scale=st.sampled_from([1.0, 2.0, 3.7]), x=st.integers(-20, 700), y=st.integers(-20, 500)
)
def test_outlines_at_a_window_are_what_drawing_them_whole_gives(seed, scale, x, y):
    outlines = some_outlines(seed)
    frame = ModelFrame(scale=scale, mpp=0.486, size=SLIDE)
    window = Region(int(x / scale), int(y / scale), 45, 37)
    expected = rasterize(outlines.tumour, frame, window)
    np.testing.assert_array_equal(OutlineReference(outlines).over(frame, window), expected)


@given(seed=st.integers(0, 500), scale=st.sampled_from([1.0, 2.0, 3.7]), cell_px=st.sampled_from([8, 33]))
def test_coarse_cells_of_outlines_never_miss_tumour_and_full_ones_hold_nothing_else(seed, scale, cell_px):
    outlines = some_outlines(seed)
    frame = ModelFrame(scale=scale, mpp=0.486, size=Size(round(1400 / scale), round(1100 / scale)))
    check_coarse(OutlineReference(outlines), frame, cell_px)


def check_coarse(reference, frame, cell_px):
    grid = grid_of(frame, cell_px)
    coarse = reference.over_cells(grid)
    rows, columns = grid.cells.shape
    drawn = reference.over(frame, Region(0, 0, columns * cell_px, rows * cell_px))
    cells = drawn.reshape(rows, cell_px, columns, cell_px)
    assert not (cells.any(axis=(1, 3)) & ~coarse.may_hold).any()
    assert not (coarse.full & ~cells.all(axis=(1, 3))).any()
    return coarse


def test_coarse_cells_bear_outlines_at_the_border_and_far_beyond_it():
    border = np.array([(0, 0), (1400, 0), (1400, 1100), (0, 1100)], float)
    thin = np.array([(0, 40), (0, 900), (0.6, 900), (0.6, 40)], float)
    nonsense = np.array([(300, 500), (4e5, 501), (4e5, 503), (300, 502)], float)
    below = np.array([(-4e5, 2000), (4e5, 2000), (4e5, 3000)], float)
    frame = ModelFrame(scale=1.0, mpp=0.486, size=SLIDE)
    for rings, most in (
        ([border], 1500),
        ([thin], 100),
        ([nonsense], 200),
        ([below], 0),
        ([thin, nonsense, below], 300),
    ):
        outlines = AnnotationSet(tuple(Annotation.of_rings(name="", group="_0", exterior=ring) for ring in rings))
        coarse = check_coarse(OutlineReference(outlines), frame, 33)
        assert coarse.may_hold.sum() <= most


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize(("downsample", "suffix"), [(1, ".tif"), (4, ".tif"), (32, ".png")])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.3])
def test_a_mask_answers_by_the_pixel_under_each_centre(tmp_path, downsample, suffix, scale, pyramid):
    path = tmp_path / f"mask{suffix}"
    mask = write_mask(path, SLIDE, DISC_UM, RADIUS_UM, 0.486, downsample=downsample, pyramid=pyramid)
    reference = pickle.loads(pickle.dumps(MaskReference(MaskFile(path), slide=SLIDE, tumour_value=1)))
    frame = ModelFrame(scale=scale, mpp=0.486, size=Size(round(SLIDE.width / scale), round(SLIDE.height / scale)))
    for window in (Region(int(560 / scale), int(400 / scale), 60, 50), Region(-10, -7, 30, 20), Region(5000, 9, 4, 4)):
        expected = np.zeros(window.size.shape, bool)
        for row, column in np.ndindex(expected.shape):
            x = int(np.floor((window.x + column + 0.5) * scale / downsample))
            y = int(np.floor((window.y + row + 0.5) * scale / downsample))
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]:
                expected[row, column] = mask[y, x] == 255
        np.testing.assert_array_equal(reference.over(frame, window), expected)
    coarse = check_coarse(reference, frame, round(32 / scale))
    assert coarse.may_hold.any()
    assert not coarse.may_hold.all()
    assert coarse.full.any()


def test_a_tumour_of_one_pixel_is_seen_in_the_coarse_cells(tmp_path):
    path = tmp_path / "mask.tif"
    write_mask(path, SLIDE, (300.1, 220.1), 0.4, 0.486)
    frame = ModelFrame(scale=2.0, mpp=0.486, size=Size(700, 550))
    reference = MaskReference(MaskFile(path), slide=SLIDE, tumour_value=1)
    assert reference.over_cells(grid_of(frame, 33)).may_hold.sum() == 1


@pytest.mark.parametrize(
    ("masks", "value"),
    [
        ([(0, 1)], 1),
        ([(0, 1), (1, 2)], 2),
        ([(0, 2)], 2),
        # Grey masks have no say in what 1 and 2 mean.
        ([(0, 255), (0, 1)], 1),
        ([], 1),
    ],
)
def test_the_class_that_means_tumour_is_told_from_all_masks(tmp_path, masks, value):
    slides = []
    for number, values in enumerate(masks):
        path = tmp_path / f"{number}.tif"
        write_mask(path, Size(300, 200), (50, 40), 10, 0.486, values=values)
        slides.append(CohortSlide(name=str(number), path=tmp_path / "a.svs", annotation=path))
    assert tumour_value_of(slides) == value


def test_normal_tissue_of_a_camelyon_mask_is_no_tumour(tmp_path):
    write_mask(tmp_path / "normal.tif", SLIDE, DISC_UM, RADIUS_UM, 0.486, values=(0, 1))
    mask = MaskFile(tmp_path / "normal.tif")
    assert MaskReference(mask, slide=SLIDE, tumour_value=2).none
    assert not MaskReference(mask, slide=SLIDE, tumour_value=1).none


def test_a_mask_of_another_slide_is_refused(tmp_path):
    write_mask(tmp_path / "mask.png", Size(640, 640), (50, 40), 10, 0.486)
    with pytest.raises(AnnotationError, match=r"slide's shape, 1400 x 1100 px .* got 640 x 640 px .*; choose"):
        open_reference(tmp_path / "mask.png", slide=SLIDE, bounds=None, tumour_value=1)


@pytest.mark.parametrize("name", ["none.png", "none.tif", "none.xml", "none.geojson", "none.doc"])
def test_an_annotation_that_cannot_be_read_says_so(tmp_path, name):
    with pytest.raises(AnnotationError, match=r"expected .*none"):
        open_reference(tmp_path / name, slide=SLIDE, bounds=None, tumour_value=1)


def test_damaged_masks_say_so(tmp_path):
    write_mask(tmp_path / "mask.tif", SLIDE, DISC_UM, RADIUS_UM, 0.486)
    data = bytearray((tmp_path / "mask.tif").read_bytes())
    (tmp_path / "short.tif").write_bytes(data[:40])
    with pytest.raises(AnnotationError, match="cannot be read"):
        MaskFile(tmp_path / "short.tif")
    (tmp_path / "junk.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(AnnotationError, match="got damaged data in"):
        MaskFile(tmp_path / "junk.png")


def test_levels_that_are_not_marked_as_such_are_found(tmp_path):
    mask = np.zeros((512, 700), np.uint8)
    mask[100:300, 200:500] = 255
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tiff:
        for step in (1, 2, 4):
            tiff.write(mask[::step, ::step], tile=(64, 64), photometric="minisblack", metadata=None)
        tiff.write(np.zeros((90, 90), np.uint8), tile=(64, 64), photometric="minisblack", metadata=None)
    with MaskFile(tmp_path / "pages.tif") as file:
        assert file.levels == (Size(700, 512), Size(350, 256), Size(175, 128))
        assert [file.downsample(level) for level in range(3)] == [1, 2, 4]
        assert file.values() == {0, 255}
        np.testing.assert_array_equal(file.read(Region(40, 20, 90, 70), 2), mask[::4, ::4][20:90, 40:130])


def test_geojson_counts_from_the_bounds(tmp_path):
    ring = [[10, 10], [60, 10], [60, 40], [10, 40], [10, 10]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "geometry": geometry, "properties": {"classification": "Tumor"}}
    (tmp_path / "a.geojson").write_text(json.dumps([feature]))
    reference = open_reference(tmp_path / "a.geojson", slide=SLIDE, bounds=Region(100, 200, 800, 800), tumour_value=1)
    frame = ModelFrame(scale=1.0, mpp=0.5, size=SLIDE)
    found = reference.over(frame, Region(0, 0, 300, 300))
    rows, columns = np.nonzero(found)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (110, 159, 210, 239)


def test_a_slide_without_annotation_has_no_tumour():
    reference = open_reference(None, slide=SLIDE, bounds=None, tumour_value=1)
    assert isinstance(reference, NoTumour)
    frame = ModelFrame(scale=1.0, mpp=0.5, size=SLIDE)
    assert reference.none
    assert not reference.over(frame, Region(0, 0, 30, 20)).any()
    assert not reference.over_cells(grid_of(frame, 33)).may_hold.any()


def test_outlines_and_masks_of_one_disc_agree(tmp_path):
    write_outline(tmp_path / "disc.xml", DISC_UM, RADIUS_UM, 0.486)
    write_mask(tmp_path / "disc.tif", SLIDE, DISC_UM, RADIUS_UM, 0.486)
    frame = ModelFrame(scale=2.0, mpp=0.486, size=Size(700, 550))
    window = Region(200, 120, 220, 220)
    outline, mask = (
        open_reference(tmp_path / name, slide=SLIDE, bounds=None, tumour_value=1).over(frame, window)
        for name in ("disc.xml", "disc.tif")
    )
    # Half a pixel of the rim at most: the mask is on level-0 pixels, the outline exact.
    assert (outline ^ mask).sum() < 0.03 * outline.sum()
    assert outline.sum() * 0.972**2 == pytest.approx(np.pi * RADIUS_UM**2, rel=0.01)


@pytest.mark.shared
def test_real_outlines_at_their_rims_are_what_drawing_them_gives(shared_data):
    outlines = read_asap_xml(shared_data / "froc_case" / "Tumor_016.xml").tumour
    frame = ModelFrame(scale=4.0, mpp=0.243, size=Size(24_000, 55_000))
    reference = OutlineReference(outlines)
    rng = np.random.default_rng(0)
    corners = np.concatenate([area.exterior for area in outlines]) / frame.scale
    seen = set()
    for x, y in rng.permutation(corners)[:25] - rng.uniform(0, 40, (25, 2)):
        window = Region(int(x), int(y), 40, 40)
        found = reference.over(frame, window)
        np.testing.assert_array_equal(found, rasterize(outlines, frame, window))
        seen.add(bool(found.any()) + bool(found.all()))
    assert 1 in seen
    # The coarse cells hold the level-5 mask that the organisers' tools made of the same outlines.
    grid = grid_of(frame, 32)
    coarse = reference.over_cells(grid)
    with MaskFile(shared_data / "froc_case" / "Tumor_016_mask_level5.png") as file:
        mask = file.read(Region(0, 0, grid.cells.width * 4, grid.cells.height * 4)) == 255
    cells = mask.reshape(grid.cells.height, 4, grid.cells.width, 4)
    assert not (cells.any(axis=(1, 3)) & ~coarse.may_hold).any()
    assert not (coarse.full & ~cells.all(axis=(1, 3))).any()
    assert coarse.may_hold.sum() < 12 * cells.any(axis=(1, 3)).sum()
