"""Tissue told from glass, pens and black borders."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.io import imread

from napari_metastasis.geometry import HeatmapFrame, LevelFrame, ModelFrame, Region, Size
from napari_metastasis.settings import TissueSettings
from napari_metastasis.slides import TissueMask, open_slide, tissue, tissue_mask
from napari_metastasis.slides.tissue import _any_in_spans, classify_tissue

SAMPLE = Path(__file__).parents[2] / "sample_data" / "lymph-node.tif"
PINK, PURPLE, PALE = (222, 150, 190), (120, 80, 140), (234, 212, 226)
GREEN_PEN, BLUE_PEN, RED_PEN, BLACK_PEN = (30, 130, 100), (60, 90, 200), (200, 20, 25), (25, 20, 25)


def glass(rows=300, columns=400, seed=0, level=(240, 239, 241), noise=2.0):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(level, noise, (rows, columns, 3)), 0, 255).astype(np.uint8)


def painted(**boxes):
    """Return glass with a 100 x 100 box of each colour, side by side, and where each lies."""
    picture = glass(160, 20 + 120 * len(boxes))
    places = {}
    for index, (name, color) in enumerate(boxes.items()):
        place = np.s_[30:130, 20 + 120 * index : 120 + 120 * index]
        picture[place] = np.clip(picture[place].astype(int) - 240 + np.array(color), 0, 255)
        places[name] = np.s_[34:126, 24 + 120 * index : 116 + 120 * index]
    return picture, places


@pytest.mark.parametrize("noise", [0, 1, 3, 8])
@pytest.mark.parametrize("level", [(250, 250, 250), (236, 228, 234), (215, 220, 210)])
def test_blank_glass_holds_none(noise, level):
    assert classify_tissue(glass(noise=noise, level=level)).mean() < 1e-3


def test_uneven_light_is_no_tissue():
    picture = glass().astype(float) * np.linspace(0.8, 1.0, 400)[None, :, None]
    assert not classify_tissue(picture.astype(np.uint8)).any()


def test_every_stain_is_tissue_and_no_pen_is():
    picture, places = painted(pink=PINK, purple=PURPLE, pale=PALE, green=GREEN_PEN, blue=BLUE_PEN, red=RED_PEN,
                              black=BLACK_PEN)  # fmt: skip
    found = classify_tissue(picture)
    for name in ("pink", "purple", "pale"):
        assert found[places[name]].mean() > 0.99, name
    for name in ("green", "blue", "red", "black"):
        assert found[places[name]].mean() < 0.01, name


def test_a_black_border_is_no_tissue():
    picture, places = painted(pink=PINK)
    framed = np.random.default_rng(0).integers(0, 6, (360, 340, 3)).astype(np.uint8)
    framed[100:260, 100:240] = picture
    found = classify_tissue(framed)
    assert found[100:260, 100:240][places["pink"]].all()
    found[126:234, 116:224] = False  # the low-pass reaches a little past the tissue
    assert not found.any()


def test_black_ink_on_tissue_hides_none_of_it():
    picture, places = painted(pink=PINK)
    picture[60:80, 50:90] = BLACK_PEN
    assert classify_tissue(picture)[places["pink"]].all()


INKS = {"red": (185, 40, 45), "bright red": (215, 45, 30), "dark red": (150, 25, 30), "blue": (40, 90, 190),
        "clear blue": (30, 40, 150), "green": (30, 120, 70), "black": (35, 35, 40)}  # fmt: skip


def stroke(ink, *, over, width=9, blur=0.8):
    """Return glass with a round piece of tissue and a pen's stroke, and where ink on glass and clear tissue lie.

    Ink absorbs as dyes do, is darker along its edges, and is blurred together with what it is drawn on: its rim has
    colours that neither ink nor glass has.
    """
    rng = np.random.default_rng(2)
    rows, columns = np.indices((220, 300))
    picture = np.full((220, 300, 3), (242.0, 240, 241))
    tissue = (rows - 110) ** 2 + (columns - 90) ** 2 < 70**2
    picture[tissue] *= np.exp(-np.array((0.25, 0.75, 0.4)) * rng.normal(1, 0.1, (tissue.sum(), 1)))
    center = {"glass": 230, "the border": 160}[over]
    distance = np.abs(columns - center - 8 * np.sin(rows / 30))
    distance[(rows < 40) | (rows > 180)] = 99
    amount = np.clip(width / 2 - distance + 0.5, 0, 1) * np.where(distance > width / 2 - 2.5, 1.0, 0.8)
    picture *= (np.array(ink) / 255) ** amount[..., None]
    picture = gaussian_filter(picture, (blur, blur, 0)) + rng.normal(0, 1.5, picture.shape)
    near = distance < width / 2 + 3
    on_glass = near & ~binary_dilation(tissue, iterations=4)
    return np.clip(picture, 0, 255).astype(np.uint8), on_glass, tissue & ~binary_dilation(near, iterations=3)


@pytest.mark.parametrize("over", ["glass", "the border"])
@pytest.mark.parametrize("blur", [0.0, 0.8, 1.5])
@pytest.mark.parametrize("ink", INKS)
def test_no_stroke_of_a_pen_is_tissue_whatever_its_rim(ink, blur, over):
    picture, on_glass, clear = stroke(INKS[ink], over=over, blur=blur)
    found = classify_tissue(picture)
    assert found[on_glass].mean() < 0.07
    assert found[clear].mean() > 0.99


def test_the_pens_of_the_sample_slide_are_no_tissue():
    with open_slide(SAMPLE) as slide:
        pixels = slide.read(slide.frame(16.0), Region.of(slide.frame(16.0).size))
    found = classify_tissue(pixels)
    assert found[294:320, 160:245].mean() < 0.02  # red, under the node
    assert found[105:190, 54:78].mean() < 0.05  # blue, beside it
    assert found[150:230, 120:230].mean() > 0.9


@pytest.mark.parametrize("blood", [(182, 78, 105), (167, 80, 120), (150, 57, 94), (214, 130, 150), (205, 110, 110)])
def test_blood_is_tissue(blood):
    rng = np.random.default_rng(3)
    picture = glass()
    picture[40:160, 30:130] = np.clip(rng.normal(PINK, 8, (120, 100, 3)), 0, 255)
    picture[80:120, 60:110] = np.clip(rng.normal(blood, 6, (40, 50, 3)), 0, 255)
    picture[60:140, 180:260] = np.clip(rng.normal(blood, 6, (80, 80, 3)), 0, 255)
    found = classify_tissue(picture)
    assert found[44:156, 34:126].mean() > 0.99, "in a vessel"
    assert found[64:136, 184:256].mean() > 0.99, "beside tissue"


def test_a_slide_that_is_red_all_over_is_stained_so():
    picture = glass()
    picture[40:260, 40:360] = (215, 60, 75)
    assert classify_tissue(picture)[50:250, 50:350].all()


@pytest.mark.parametrize("strip", [1, 7, 64])
def test_where_a_strip_ends_changes_nothing(monkeypatch, strip):
    picture, _ = painted(pink=PINK, pale=PALE, red=RED_PEN, purple=PURPLE, blue=BLUE_PEN)
    picture[60:80, 40:70] = BLACK_PEN
    frame = LevelFrame(downsample=16.0, mpp=0.5)
    cells = HeatmapFrame(ModelFrame(scale=2.0, mpp=0.5, size=Size(4960, 1280)), patch_px=96, stride_px=12)

    def found():
        mask = tissue._cleaned(classify_tissue(picture), frame, TissueSettings(margin_um=100.0))
        return mask.mask, mask.over(cells)

    monkeypatch.setattr(tissue, "_STRIP", 10_000)
    whole = found()
    monkeypatch.setattr(tissue, "_STRIP", strip)
    for expected, got in zip(whole, found(), strict=True):
        assert expected.any()
        assert not expected.all()
        np.testing.assert_array_equal(got, expected)


def test_no_colours_of_the_whole_image_are_held():
    picture = glass(1200, 1200)
    picture[300:900, 300:900] = PINK
    classify_tissue(picture[:100, :100])
    tracemalloc.start()
    try:
        classify_tissue(picture)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # As float32, the colours alone would take twelve bytes a pixel, and their densities as many.
    assert peak < 24 * picture.shape[0] * picture.shape[1]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "pen", "tissue"),
    [
        ("tcga-green-pen.png", np.s_[250:400, 250:300], np.s_[300:600, 450:700]),
        ("tcga-red-pen.png", np.s_[180:340, 60:120], np.s_[250:440, 250:460]),
        ("wsi-blue-pen.png", np.s_[60:75, 150:174], np.s_[75:105, 60:95]),
    ],
)
def test_real_pens(shared_data, name, pen, tissue):
    picture = imread(shared_data / "thumbnails" / name)[..., :3]
    found = classify_tissue(picture)
    assert found[pen].mean() < 0.05
    assert found[tissue].mean() > 0.75


@pytest.fixture(scope="module")
def slide_path(make_slide):
    """A slide at 2 µm/px: glass, one round piece of tissue of 1.6 mm, and a speck of 40 µm."""
    picture = glass(1200, 1600)
    rows, columns = np.indices((1200, 1600))
    picture[(rows - 500) ** 2 + (columns - 600) ** 2 < 400**2] = PINK
    picture[1000:1020, 1400:1420] = PINK
    return make_slide("tissue.tif", picture, mpp=2.0), make_slide("tissue-single.tif", picture, mpp=2.0, levels=1)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_slide(slide_path, kind):
    with open_slide(slide_path[kind]) as slide:
        found = tissue_mask(slide)
        bare = tissue_mask(slide, TissueSettings(margin_um=0))
    assert found.frame.downsample == pytest.approx(8, rel=1e-6)
    assert found.mask.shape == (150, 200)
    assert bare.fraction == found.fraction == pytest.approx(np.pi * 400**2 / (1200 * 1600), rel=0.03)
    assert bare.mask.mean() == bare.fraction
    assert found.mask[62, 75 + 50 + 3]  # 64 µm are four pixels of margin
    assert not found.mask[125:, 170:].any(), "a speck"


def test_a_blank_slide(make_slide):
    with open_slide(make_slide("blank.tif", glass(600, 700), mpp=2.0)) as slide:
        found = tissue_mask(slide)
    assert found.fraction == 0
    assert not found.mask.any()


def test_it_can_be_stopped(slide_path):
    with open_slide(slide_path[0]) as slide:
        assert tissue_mask(slide, should_stop=lambda: True) is None


@pytest.mark.parametrize("stride", [1, 3, 16])
@pytest.mark.parametrize("downsample", [5.0, 8.0, 64.0])
def test_cells_with_tissue_against_the_definition(stride, downsample):
    rng = np.random.default_rng(4)
    mask = rng.random((int(np.ceil(247 / downsample)), int(np.ceil(331 / downsample)))) < 0.1
    found = TissueMask(mask=mask, frame=LevelFrame(downsample=downsample, mpp=1.0), fraction=0.1)
    frame = HeatmapFrame(model=ModelFrame(scale=1.5, mpp=1.0, size=Size(221, 165)), patch_px=20, stride_px=stride)
    cells = found.over(frame)
    assert cells.shape == frame.cells.shape
    for row, column in rng.integers(0, cells.shape, (60, 2)):
        corner = frame.cell_corner(column, row)
        expected = any(
            mask[y, x]
            for y in range(mask.shape[0])
            for x in range(mask.shape[1])
            if x * downsample < corner.x + frame.cell_px - 1e-6
            and (x + 1) * downsample > corner.x + 1e-6
            and y * downsample < corner.y + frame.cell_px - 1e-6
            and (y + 1) * downsample > corner.y + 1e-6
        )
        assert cells[row, column] == expected


@settings(deadline=None, max_examples=100)
@given(shape=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 2**31))
def test_spans_hold_what_a_look_at_each_finds(shape, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.2
    first = np.sort(rng.integers(0, shape[0] + 1, 20))
    last = np.minimum(first + rng.integers(0, 5, 20), shape[0])
    expected = [mask[a:b].any(axis=0) for a, b in zip(first, last, strict=True)]
    np.testing.assert_array_equal(_any_in_spans(mask, first, last), expected)
