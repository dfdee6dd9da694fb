"""A synthetic slide: the same whatever part is read, and true to its outlines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_metastasis.annotations import rasterize, read_asap_xml
from napari_metastasis.errors import RegionError, SettingsError
from napari_metastasis.geometry import LevelFrame, Region
from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.slides import open_slide
from napari_metastasis.synthetic import SyntheticSlide, make_slide, sample_slide_path, size_class
from napari_metastasis.synthetic._layout import plan_layout
from napari_metastasis.synthetic._tissue import Kind


def around(slide, blob, side):
    """A square of level-0 pixels around the middle of an outline."""
    x = int(min(max(0, blob.x / slide.mpp - side / 2), slide.size.width - side))
    y = int(min(max(0, blob.y / slide.mpp - side / 2), slide.size.height - side))
    return Region(x, y, side, side)


def test_a_seed_is_a_slide(small):
    region = around(small, small.layout.metastases[0].outline, 300)
    np.testing.assert_array_equal(SyntheticSlide(small.settings).read(region), small.read(region))
    other = SyntheticSlide(replace(small.settings, seed=5))
    assert (other.read(region) != small.read(region)).mean() > 0.5


def test_any_tile_is_the_crop_of_a_larger_one(small):
    whole = Region(700, 450, 700, 650)
    pixels = SyntheticSlide(small.settings).read(whole)
    for part in (Region(703, 451, 130, 97), Region(1000, 500, 64, 64), Region(1300, 1000, 100, 100)):
        np.testing.assert_array_equal(small.read(part), pixels[part.shifted(-whole.x, -whole.y).slices])


def test_squares_join_without_a_seam(small):
    """A window drawn in one piece across the squares' borders is what the squares show, but for rounding."""
    window = around(small, small.layout.metastases[0].outline, 512)
    window = Region(window.x // 8 * 8, window.y // 8 * 8, 512, 512)
    assert window.x % 512 > 50
    direct = small._draw(window).astype(int)
    difference = np.abs(direct - small.read(window))
    # Two cells at the same distance from a pixel are told apart by the last bit.
    assert difference.mean() < 0.02
    assert (difference > 2).mean() < 1e-3


def test_outlines_are_where_the_tumour_is(small):
    """The annotation's mask against the tissue's own function, pixel by pixel."""
    for annotation, metastasis in zip(small.annotations, small.layout.metastases, strict=True):
        region = around(small, metastasis.outline, 800)
        mask = rasterize([annotation], LevelFrame(downsample=1, mpp=small.mpp), region)
        x, y = np.meshgrid(np.arange(800) + region.x + 0.5, np.arange(800) + region.y + 0.5)
        depth = metastasis.outline.depth((x * small.mpp).astype(np.float32), (y * small.mpp).astype(np.float32))
        truth = depth > 0
        assert truth.any()
        assert (mask & truth).sum() / (mask | truth).sum() > 0.995


def test_tumour_cells_stay_inside_their_outline_and_fill_it(small):
    rng = np.random.default_rng(0)
    extent = np.array([small.size.width, small.size.height]) * small.mpp
    x, y = (rng.uniform(0, 1, (20_000, 2)) * extent).astype(np.float32).T
    tissue = small._tissue.at(x, y)
    kinds = tissue.kinds()
    assert (tissue.tumour[kinds == Kind.NEST] > 0).all()
    # Growth in cords, as here, is mostly stroma.
    assert (kinds[tissue.tumour > 25] == Kind.NEST).mean() > 0.3
    assert set(kinds.tolist()) >= {Kind.GLASS, Kind.FAT, Kind.FIBRE, Kind.SINUS, Kind.LYMPHOID, Kind.NEST}


def test_subtle_tumour_is_paler_and_all_else_stays(small):
    region = around(small, small.layout.metastases[0].outline, 900)
    subtle = SyntheticSlide(replace(small.settings, subtlety=1.0))
    before, after = (slide.read(region).astype(int) for slide in (small, subtle))
    x, y = np.meshgrid(np.arange(900) + region.x + 0.5, np.arange(900) + region.y + 0.5)
    xy = ((x * small.mpp).astype(np.float32), (y * small.mpp).astype(np.float32))
    depth = np.max([one.outline.depth(*xy) for one in small.layout.metastases], axis=0)
    # Nuclei reach a few µm past an outline.
    np.testing.assert_array_equal(before[depth < -15], after[depth < -15])
    # Red is what haematoxylin takes away.
    assert after[depth > 10, 0].mean() > before[depth > 10, 0].mean() + 2
    assert "subtlety" not in small.settings.told()
    assert subtle.settings.told()["subtlety"] == 1.0


@pytest.mark.parametrize("seed", [1, 2, 3, 2016])
def test_every_size_class_is_met(seed):
    settings = SyntheticSettings(seed=seed)
    layout = plan_layout(settings)
    slide = SyntheticSlide(settings)
    found = [size_class(annotation, settings.mpp) for annotation in slide.annotations]
    assert found == ["macro"] * settings.macro + ["micro"] * settings.micro + ["itc"] * settings.itc
    assert [m.name.split()[0] for m in layout.metastases] == found
    for annotation in slide.annotations:
        assert (annotation.exterior > 0).all()
        assert (annotation.exterior < (settings.width_px, settings.height_px)).all()


def test_mimics_change_normal_cells_and_leave_tumour_alone():
    settings = SyntheticSettings(seed=4, width_px=2700, height_px=2100, macro=0, micro=1, itc=0, fat_mm=0.1)
    plain, deceptive = (SyntheticSlide(replace(settings, mimics=mimics)) for mimics in (0.0, 1.0))
    for one, other in zip(plain.annotations, deceptive.annotations, strict=True):
        np.testing.assert_array_equal(one.exterior, other.exterior)
    mine, theirs = plain._nuclei, deceptive._nuclei
    for bank in ("histiocytes", "centroblasts"):
        assert np.median([nucleus.half for nucleus in getattr(theirs, bank)]) > np.median(
            [nucleus.half for nucleus in getattr(mine, bank)]
        )
    for one, other in zip(mine.tumour, theirs.tumour, strict=True):
        np.testing.assert_array_equal(one.add, other.add)
    x, y = np.meshgrid(np.arange(0, 1300, 6, dtype=np.float32), np.arange(0, 1020, 6, dtype=np.float32))
    (before, tumour), (after, _) = plain.kinds_at(x, y), deceptive.kinds_at(x, y)
    np.testing.assert_array_equal(before[tumour > 0], after[tumour > 0])
    assert (after == Kind.SINUS).sum() > 1.3 * (before == Kind.SINUS).sum()


@pytest.fixture(scope="module")
def varied(small):
    return SyntheticSlide(replace(small.settings, variety=1.0))


def test_variety_makes_benign_tissue_fibrous_and_leaves_tumour_alone(small, varied):
    for one, other in zip(small.annotations, varied.annotations, strict=True):
        np.testing.assert_array_equal(one.exterior, other.exterior)
    extent = np.array([small.size.width, small.size.height]) * small.mpp
    x, y = np.meshgrid(*(np.arange(0, side, 6, dtype=np.float32) for side in extent))
    (before, tumour), (after, _) = small.kinds_at(x, y), varied.kinds_at(x, y)
    np.testing.assert_array_equal(before[tumour > 0], after[tumour > 0])
    assert (after == Kind.FIBRE).sum() > 1.8 * (before == Kind.FIBRE).sum()
    assert "variety" not in small.settings.told()
    assert varied.settings.told()["variety"] == 1.0


def test_varied_germinal_centres_lie_away_from_the_thick_side_of_their_mantle():
    even, varied = (SyntheticSlide(SyntheticSettings(seed=11, variety=variety)) for variety in (0.0, 1.0))
    follicle = next(one for one in even.layout.follicles if one.center)
    outline, side = follicle.outline, np.arange(-300, 300, 4, dtype=np.float32)
    dx, dy = np.meshgrid(side, side)
    towards = dx * np.cos(follicle.light) + dy * np.sin(follicle.light)
    means = []
    for slide in (even, varied):
        kinds, _ = slide.kinds_at(outline.x + dx, outline.y + dy)
        near = outline.depth(outline.x + dx, outline.y + dy) > -5
        means.append(towards[(kinds == Kind.CENTER) & near].mean())
    assert means[1] < means[0] - 10


def test_varied_tissue_has_no_seam_either(varied):
    node = varied.layout.nodes[0].outline
    # At the capsule, whose sheath lies outside the node.
    angle = np.argmin(node.radius) / len(node.radius) * 2 * np.pi - np.pi
    edge = replace(node, x=node.x + node.radius.min() * np.cos(angle), y=node.y + node.radius.min() * np.sin(angle))
    window = around(varied, edge, 512)
    window = Region(window.x // 8 * 8, window.y // 8 * 8, 512, 512)
    assert window.x % 512
    assert window.y % 512
    difference = np.abs(varied._draw(window).astype(int) - varied.read(window))
    assert difference.mean() < 0.02
    assert (difference > 2).mean() < 1e-3
    part = Region(window.x + 37, window.y + 5, 200, 90)
    np.testing.assert_array_equal(
        SyntheticSlide(varied.settings).read(part), varied.read(window)[part.shifted(-window.x, -window.y).slices]
    )


@pytest.mark.parametrize("seed", [1, 2, 2016])
def test_pens_mark_beside_metastases(seed):
    layout = plan_layout(SyntheticSettings(seed=seed, pen_marks=4))
    for pen in layout.pens:
        for metastasis in layout.metastases:
            # By the outlines' own corners, not by the search's distance.
            gaps = metastasis.outline.polygon(256)[:, None] - pen.points
            assert np.hypot(gaps[..., 0], gaps[..., 1]).min() > pen.half_width_um


def test_coarse_grain_does_not_repeat_where_the_tables_of_fine_grain_do():
    """At low power, tumour is no more like itself one table away than at any other distance."""
    slide = SyntheticSlide(SyntheticSettings(seed=2016))
    macro = slide.layout.metastases[0].outline
    region = around(slide, macro, 2048)
    x, y = ((np.arange(0, 2048, 8) + start) * slide.mpp for start in (region.x, region.y))
    noise = slide._tissue.noise.at(x.astype(np.float32)[None, :], y.astype(np.float32)[:, None], 9, 71)
    spectrum = np.abs(np.fft.rfft2(noise - noise.mean())) ** 2
    alike = np.fft.irfft2(spectrum) / np.fft.irfft2(spectrum)[0, 0]
    assert np.abs(alike[[0, 128, 128], [128, 0, 128]]).max() < 6 * alike[20:100, 20:100].std()


def test_lymphoid_tissue_is_dark_fat_is_light_and_glass_is_white(small):
    """Rough colours: lymphoid tissue darker than tumour, tumour darker than fat, fat darker than glass."""
    rng = np.random.default_rng(1)
    extent = np.array([small.size.width, small.size.height]) * small.mpp
    x, y = (rng.uniform(0.02, 0.98, (3000, 2)) * extent).astype(np.float32).T
    kinds = small._tissue.at(x, y).kinds()
    mean = {}
    for kind in (Kind.GLASS, Kind.FAT, Kind.LYMPHOID, Kind.NEST):
        values = [
            small.read(Region(int(px / small.mpp), int(py / small.mpp), 1, 1)).mean()
            for px, py in zip(x[kinds == kind][:60], y[kinds == kind][:60], strict=True)
        ]
        mean[kind] = np.median(values)
    assert mean[Kind.LYMPHOID] < mean[Kind.NEST] < mean[Kind.FAT] <= mean[Kind.GLASS] + 2


def test_a_slide_and_its_outlines_are_written_side_by_side(tmp_path):
    settings = SyntheticSettings(seed=1, width_px=1100, height_px=900, macro=0, micro=0, itc=1, fat_mm=0.05)
    calls = []
    path = tmp_path / "slide.tif"
    annotations = make_slide(path, settings, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (6, 6)
    read = read_asap_xml(tmp_path / "slide.xml")
    for one, other in zip(read, annotations, strict=True):
        np.testing.assert_array_equal(one.exterior, other.exterior)
        assert one.group == "metastases"
        assert one.is_tumour
    with open_slide(path) as slide:
        assert (slide.size.width, slide.size.height) == (1100, 900)
        assert slide.mpp == pytest.approx(0.486, rel=1e-6)
        stored = slide.read_level(0, Region(300, 300, 256, 256)).astype(int)
    drawn = SyntheticSlide(settings).read(Region(300, 300, 256, 256))
    # JPEG moves pixels a little, and nothing else does.
    assert np.abs(stored - drawn).mean() < 8


def test_large_slides_are_drawn_where_they_are_read():
    settings = SyntheticSettings(
        seed=2, width_px=100_000, height_px=100_000, nodes=4, node_mm=12, macro=2, micro=4, itc=4
    )
    slide = SyntheticSlide(settings)
    blob = slide.layout.nodes[-1].outline
    pixels = slide.read(around(slide, blob, 64))
    assert pixels.shape == (64, 64, 3)
    assert pixels.std() > 10


def test_a_region_off_the_slide_is_refused(small):
    for region in (Region(-1, 0, 5, 5), Region(2600, 0, 200, 5), Region(0, 0, 0, 5)):
        with pytest.raises(RegionError, match="expected a region on the slide"):
            small.read(region)


def test_what_has_no_room_is_refused(small):
    with pytest.raises(SettingsError, match=r"expected room for 1 metastases of class macro .* ask for fewer"):
        SyntheticSlide(replace(small.settings, macro=1))
    with pytest.raises(SettingsError, match="expected grade between 0 and 1"):
        SyntheticSettings(grade=2)


def test_the_sample_is_drawn_once_where_the_tree_has_none(tmp_path, monkeypatch):
    drawn = []

    def draw(path, **_):
        drawn.append(path)
        path.write_bytes(b"slide")
        path.with_suffix(".xml").write_bytes(b"outlines")

    monkeypatch.setattr("napari_metastasis.synthetic._make.SAMPLE_FOLDER", tmp_path / "none")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    monkeypatch.setattr("napari_metastasis.synthetic._make.make_slide", draw)
    first = sample_slide_path()
    assert sample_slide_path() == first
    assert drawn == [first]
    # Another recipe makes another slide, and the old one stays for whoever still has it open.
    with monkeypatch.context() as newer:
        newer.setattr("napari_metastasis.synthetic._make.SyntheticSettings", lambda: SyntheticSettings(grade=0.7))
        second = sample_slide_path()
    assert second != first
    assert second.name == first.name
    assert drawn == [first, second]
    assert first.is_file()
    assert sample_slide_path() == first
    tree = tmp_path / "none"
    tree.mkdir()
    (tree / first.name).touch()
    assert sample_slide_path().parent == tree
