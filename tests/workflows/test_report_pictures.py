"""Pictures of what was found: where things lie on them, in which colours, and what they do not hide."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import imagecodecs
import numpy as np
import pytest
import shapely
from dark_model import dark_model, mover
from disc_slide import DISC_CENTER, DISC_RADIUS, MPP
from results import write_lesions
from scans import SCAN, scan_with

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, LevelFrame, Region, Size
from napari_metastasis.lesions import SIZE_CLASSES, LesionReview
from napari_metastasis.settings import RefineSettings
from napari_metastasis.slides import TissueMask, open_slide, write_pyramid
from napari_metastasis.workflows.report import Found, finding_image, overview_image, read_result, write_picture
from napari_metastasis.workflows.report.drawing import (
    Label,
    as_jpeg,
    draw_labels,
    draw_lines,
    hatch,
    nice_length,
    scale_text,
    with_footer,
    without_footer,
)
from napari_metastasis.workflows.report.write import _found_in

#: Height of the slide's part of an overview of 1,700 x 1,200 px at 1,600 px a side.
_ROWS = 1129


@dataclass(frozen=True)
class Square:
    """A lesion of a square outline."""

    id: int
    x: float
    y: float
    half: float
    size_class: str = "micro"
    length_mm: float = 0.5
    counts: bool = True
    review: LesionReview | None = None
    is_point: bool = False
    outline: shapely.Geometry | None = None

    @property
    def number(self):
        return str(self.id)

    @property
    def outline_px(self):
        return self.outline or shapely.box(
            self.x - self.half, self.y - self.half, self.x + self.half, self.y + self.half
        )


def near(picture, rgb, *, by=40):
    """Return where a picture has a colour: rows and columns."""
    return np.nonzero((np.abs(picture.astype(int) - rgb) <= by).all(axis=-1))


def found_on(slide, *, scanned: Region | None, tissue: Region) -> Found:
    """Return what a scan knows that looked at a part of a slide: level-0 pixels."""
    model = slide.frame(MPP)
    frame = HeatmapFrame(model=model, patch_px=16, stride_px=16)
    values = np.full(frame.cells.shape, np.nan, np.float32)
    if scanned is not None:
        values[frame.cells_over(scanned).slices] = 0.0
    mask = np.zeros((slide.size.height // 10, slide.size.width // 10), bool)
    mask[Region(*(side // 10 for side in (tissue.x, tissue.y, tissue.width, tissue.height))).slices] = True
    return Found(values, frame, TissueMask(mask, LevelFrame(downsample=10, mpp=slide.mpp), float(mask.mean())))


@pytest.mark.parametrize("name", list(SIZE_CLASSES))
def test_an_outline_has_its_place_and_the_colour_of_its_class(slide, name):
    plain = overview_image(slide, [])
    picture = overview_image(slide, [Square(1, 700, 500, 150, name)])
    changed = np.nonzero((picture != plain).any(axis=-1)[:_ROWS])
    scale = 1700 / 1600
    rows, columns = near(picture[:_ROWS], SIZE_CLASSES[name].rgb)
    assert len(rows) > 400
    for found, middle in ((rows, 500), (columns, 700)):
        assert (found.min() + found.max() + 1) / 2 * scale == pytest.approx(middle, abs=20)
    assert changed[1].max() * scale == pytest.approx(850, abs=6)
    assert changed[1].min() * scale == pytest.approx(550, abs=6)
    assert changed[0].max() * scale == pytest.approx(650, abs=6)


def test_the_tissue_of_an_overview_lies_where_it_lies_on_the_slide(slide):
    picture = without_footer(overview_image(slide, []))
    assert picture.shape == (_ROWS, 1600, 3)
    rows, columns = near(picture, (90, 30, 110), by=12)
    scale = 1700 / 1600
    assert (columns.mean() + 0.5) * scale == pytest.approx(DISC_CENTER.x, abs=1.5)
    assert (rows.mean() + 0.5) * scale == pytest.approx(DISC_CENTER.y, abs=1.5)
    assert np.sqrt(len(rows) / np.pi) * scale == pytest.approx(DISC_RADIUS, rel=0.01)


def test_a_small_finding_is_circled_and_a_large_one_is_not(slide):
    plain, rings = overview_image(slide, []), []
    for half in (2, 60):
        picture = overview_image(slide, [Square(1, 300, 900, half)])
        # Beside the outline; its number stands above.
        around = picture[int(900 / 1.0625) + 2, : int((300 - half) / 1.0625) - 4]
        rings.append((around != plain[int(900 / 1.0625) + 2, : len(around)]).any())
    assert rings == [True, False]


def test_tissue_that_was_not_scanned_is_hatched_and_nothing_else(slide):
    tissue = Region(500, 300, 1000, 700)
    plain = without_footer(overview_image(slide, []))
    picture = without_footer(
        overview_image(slide, [], found_on(slide, scanned=Region(500, 300, 500, 700), tissue=tissue))
    )
    changed = (plain != picture).any(axis=-1)
    scale = 1700 / 1600
    rows, columns = np.nonzero(changed)
    assert changed.any()
    # Cells at the edge of what was scanned are scanned whole.
    assert columns.min() * scale == pytest.approx(1000, abs=18)
    assert columns.max() * scale == pytest.approx(1500, abs=12)
    assert rows.min() * scale == pytest.approx(300, abs=12)
    assert rows.max() * scale == pytest.approx(1000, abs=12)
    inside = changed[int(320 / scale) : int(980 / scale), int(1030 / scale) : int(1480 / scale)]
    assert inside.all()


def test_the_legend_names_hatching_only_where_there_is_some(slide):
    whole = found_on(slide, scanned=Region.of(slide.size), tissue=Region(500, 300, 1000, 700))
    part = found_on(slide, scanned=None, tissue=Region(500, 300, 1000, 700))
    glass = found_on(slide, scanned=None, tissue=Region(0, 0, 0, 0))
    plain, *others = (overview_image(slide, [], found)[_ROWS:] for found in (None, whole, glass, part))
    assert [np.array_equal(plain, other) for other in others] == [True, True, False]


def test_heat_lies_over_tumour_only_where_it_is_asked_for(slide):
    found = found_on(slide, scanned=Region.of(slide.size), tissue=Region(500, 300, 1000, 700))
    values = found.probabilities.copy()
    values[:, : values.shape[1] // 2] = 0.95
    hot = replace(found, probabilities=values)
    plain, heat = overview_image(slide, [], hot), overview_image(slide, [], hot, heat=True)
    np.testing.assert_array_equal(plain, overview_image(slide, []))
    assert (heat[:_ROWS, :780] != plain[:_ROWS, :780]).any(axis=-1).all()
    np.testing.assert_array_equal(heat[:, 820:], plain[:, 820:])


def test_of_a_slide_with_bounds_what_lies_in_them_is_shown(slide):
    slide.bounds = Region(500, 300, 1000, 700)
    picture = without_footer(overview_image(slide, [Square(1, 1000, 650, 100)]))
    assert picture.shape == (1120, 1600, 3)
    rows, columns = near(picture, SIZE_CLASSES["micro"].rgb)
    assert (columns.min() + columns.max() + 1) / 2 / 1.6 == pytest.approx(500, abs=15)
    assert (rows.min() + rows.max() + 1) / 2 / 1.6 == pytest.approx(350, abs=25)
    assert (picture[2, 2] != 245).any()  # tissue up to the edge


def test_an_outline_is_drawn_as_its_lesion_was_measured_however_large_cells_are(slide):
    scanned = found_on(slide, scanned=Region.of(slide.size), tissue=Region(400, 300, 800, 600))
    lesion = Square(1, 700, 500, 150)
    np.testing.assert_array_equal(overview_image(slide, [lesion], scanned), overview_image(slide, [lesion]))


def test_a_finding_is_shown_at_20x_with_its_outline(slide):
    picture, um = finding_image(slide, Square(1, 1130, 640, 100))
    assert picture.shape == (400, 400, 3)
    assert um == pytest.approx(0.5)
    rows, columns = near(picture, SIZE_CLASSES["micro"].rgb)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(199.5, abs=3)
    assert columns.max() - columns.min() == pytest.approx(200 * MPP / 0.5, abs=6)
    rows, columns = near(picture[:360], (90, 30, 110), by=6)
    assert len(rows) > 100_000  # of the disc, little is covered


def test_of_a_finding_that_is_longer_the_strongest_place_is_shown(slide):
    long = Square(1, 700, 400, 50)
    wide = shapely.box(100, 300, 1600, 500)
    lesion = replace(long, outline=wide)
    picture, _ = finding_image(slide, lesion)
    rows, _columns = near(picture, SIZE_CLASSES["micro"].rgb)
    assert sorted({int(row) // 20 for row in rows}) == [4, 5, 14, 15] or {4, 5, 14, 15} >= {
        int(row) // 20 for row in rows
    }


def test_a_coarse_slide_is_shown_at_its_own_resolution(tmp_path):
    pixels = np.full((300, 300, 3), 240, np.uint8)
    pixels[100:200, 100:200] = (225, 150, 195)
    write_pyramid(tmp_path / "coarse.tif", pixels, mpp=2.0, size=Size(300, 300), compression="deflate")
    with open_slide(tmp_path / "coarse.tif") as slide:
        picture, um = finding_image(slide, Square(1, 20, 20, 5))
    assert um == 2.0
    assert (picture[:100, :100] == 255).all()  # past the slide


def test_the_picture_of_a_result_has_heat_and_the_outlines_of_its_files(slide, tmp_path):
    scan_with(slide, dark_model(), tmp_path / "out", scan=SCAN)
    path = write_picture(tmp_path / "out")
    assert path == tmp_path / "out" / "overview.png"
    picture = imagecodecs.png_decode(path.read_bytes())
    middle = picture[int(DISC_CENTER.y / 1.0625), int(DISC_CENTER.x / 1.0625)].astype(int)
    assert middle[0] > middle[2]  # red over what was purple
    _, columns = near(picture[:_ROWS], SIZE_CLASSES["micro"].rgb)
    assert (columns.min() + columns.max()) / 2 * 1.0625 == pytest.approx(DISC_CENTER.x, abs=20)
    # The files are what is drawn.
    write_lesions(tmp_path / "out", [{"id": 1, "x": 600, "y": 400, "mm": 0.3, "size_class": "micro"}])
    _, columns = near(
        imagecodecs.png_decode(write_picture(tmp_path / "out").read_bytes())[:_ROWS], SIZE_CLASSES["micro"].rgb
    )
    assert columns.max() * 1.0625 < 700


def test_heat_and_outlines_are_of_one_refiner(slide, tmp_path):
    """Another one may have been tried later, in the same folder."""
    model, refine = dark_model(), RefineSettings(refine=True)
    first = mover(model)
    network = copy.deepcopy(first.network)
    network.answer.weight.neg_()
    other = replace(first, network=network, weights_sha256="c" * 64)
    results = [
        scan_with(slide, model, tmp_path / "out", scan=SCAN, refiner=refiner, refine=refine)
        for refiner in (first, other, first)
    ]
    assert len([*(tmp_path / "out").glob("refined*.ome.zarr")]) == 2
    assert np.nanmax(np.abs(results[1].probabilities - results[0].probabilities)) > 0.01
    np.testing.assert_array_equal(
        _found_in(read_result(tmp_path / "out"), slide).probabilities, results[0].probabilities
    )


def test_a_result_without_its_heatmap_is_one_error(slide, tmp_path):
    result = scan_with(slide, dark_model(), tmp_path / "out", scan=SCAN)
    (result.output / "heatmap.ome.zarr").rename(tmp_path / "gone")
    with pytest.raises(StorageError, match="heatmap"):
        write_picture(result.output)


def test_labels_never_cover_each_other():
    white = np.full((100, 200, 3), 255, np.uint8)
    one = draw_labels(white, [Label("12", 50, 50)])
    two = draw_labels(white, [Label("12", 50, 50), Label("13", 55, 52)])
    np.testing.assert_array_equal(one, two)
    apart = draw_labels(white, [Label("12", 50, 50), Label("13", 150, 52)])
    assert (apart[:, 120:] != 255).any()


def test_lines_past_a_picture_and_empty_ones_are_no_error():
    picture = np.full((50, 60, 3), 200, np.uint8)
    far = np.array([[500.0, 500.0], [600.0, 600.0]])
    for lines in ([], [far], [far[:1]]):
        np.testing.assert_array_equal(draw_lines(picture, lines, rgb=(0, 0, 0), width_px=2), picture)
    crossing = draw_lines(picture, [np.array([[-100.0, 25.0], [200.0, 25.0]])], rgb=(0, 0, 0), width_px=2)
    assert (crossing[25, :] < 60).all()
    assert (picture == 200).all()


def test_hatching_keeps_the_rest_and_shows_the_tissue_through():
    picture = np.full((60, 60, 3), 100, np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[20:40] = True
    hatched = hatch(picture, mask)
    np.testing.assert_array_equal(hatched[~mask], picture[~mask])
    assert len(np.unique(hatched[mask])) == 2


@pytest.mark.parametrize(
    ("um", "length", "text"), [(1400, 1000, "1 mm"), (5000, 5000, "5 mm"), (130, 100, "0.1 mm"), (73, 50, "0.05 mm")]
)
def test_scale_bars_have_round_lengths(um, length, text):
    assert nice_length(um) == length
    assert scale_text(length) == text


def test_a_narrow_picture_gets_room_for_its_legend():
    picture = np.full((300, 20, 3), 90, np.uint8)
    wide = with_footer(picture, um_per_px=5.0, legend=[])
    np.testing.assert_array_equal(wide[:300, :20], picture)
    assert (wide[:300, 20:] == 255).all()
    assert (wide[300:] < 60).any()


def test_pictures_take_no_more_than_they_may():
    noise = np.random.default_rng(1).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    assert len(as_jpeg(noise, most_bytes=10**6)) > 40_000 > len(as_jpeg(noise, most_bytes=40_000))
