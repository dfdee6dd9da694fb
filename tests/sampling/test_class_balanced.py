"""Patches from slides: where they lie, what they are, and that a number says all about a batch."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from cohort_files import GLASS, TUMOUR, write_mask, write_outline, write_slide

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import tumour_value_of
from napari_metastasis.errors import TrainingError
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling import slide_index
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.failures import SlideFailure, read_failures
from napari_metastasis.sampling.locations import CellSet, PatchShape
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.settings import SamplingSettings
from napari_metastasis.slides import open_slide

SPEC = ModelSpec(name="test", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=8)
SETTINGS = SamplingSettings(patches_per_epoch=64)
DISC_UM, RADIUS_UM = (411.0, 263.0), 40.0


def is_dark(patches):
    """Pixels of the painted tumour, also where resampling mixed them with others."""
    middle = (np.array(TUMOUR) + np.array((225, 150, 195))) / 2
    return (patches < middle).all(axis=-1)


def disc_slide(folder, name, *, mpp=0.486, reference="xml", disc_um=DISC_UM, radius_um=RADIUS_UM, **options):
    path = folder / f"{name}.tif"
    size = write_slide(path, mpp=mpp, disc_um=disc_um, radius_um=radius_um, **options)
    annotation = folder / f"{name}_mask.{reference}" if reference != "xml" else folder / f"{name}.xml"
    if reference == "xml":
        write_outline(annotation, disc_um, radius_um, mpp)
    else:
        write_mask(annotation, size, disc_um, radius_um, mpp, downsample=4 if reference == "png" else 1, pyramid=True)
    return CohortSlide(name=name, path=path, annotation=annotation, tumour=True)


def normal_slide(folder, name, **options):
    path = folder / f"{name}.tif"
    write_slide(path, **options)
    return CohortSlide(name=name, path=path, tumour=False)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return (
        disc_slide(folder, "tumor_001"),
        disc_slide(folder, "tumor_002", reference="tif", disc_um=(200.0, 300.0), radius_um=120.0),
        normal_slide(folder, "normal_001", seed=5),
        normal_slide(folder, "normal_002", seed=6),
    )


@pytest.mark.parametrize("reference", ["xml", "tif", "png"])
@pytest.mark.parametrize("mpp", [0.243, 0.486, 0.972])
def test_what_is_labelled_tumour_shows_the_disc_in_its_middle_and_nothing_else_does(tmp_path, mpp, reference):
    cohort = (disc_slide(tmp_path, "a", mpp=mpp, reference=reference, size_um=(560.0, 430.0)),)
    source = SlideBatches(cohort, BatchPlan(SPEC, replace(SETTINGS, normal_margin_um=0.0), 128, seed=3))
    batches = [source.batch(k) for k in range(3)]
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    dark = is_dark(images)
    # Of 96 px, the central 32. The rim of the painted disc and of its outline may differ by a pixel, a coarse mask's
    # by its own pixel more.
    slack = 1 if reference != "png" else 1 + round(4 * mpp / 0.972)
    grown = dark[:, 32 - slack : 64 + slack, 32 - slack : 64 + slack].any(axis=(1, 2))
    shrunk = dark[:, 32 + slack : 64 - slack, 32 + slack : 64 - slack].any(axis=(1, 2))
    assert grown[labels == 1].all()
    assert not shrunk[labels == 0].any()
    # Normal patches come close: some show the disc outside their middle.
    assert dark[labels == 0].any()
    # Places of both kinds lie all around the disc, at its rim and in it.
    rows, columns = np.nonzero(dark[labels == 1].sum(axis=0) > 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 95, 0, 95)


def test_patches_lie_where_every_place_that_does_is_as_likely(tmp_path):
    cohort = (disc_slide(tmp_path, "a"),)
    source = SlideBatches(cohort, BatchPlan(SPEC, SETTINGS, 8, seed=1))
    source.prepare(threads=1)
    (indexed,) = source._reader.indexed
    rng = np.random.default_rng(0)
    locations = [indexed.locations.draw(1, indexed.reference, rng) for _ in range(3000)]
    centers = np.array([(location.center.x, location.center.y) for location in locations]) * 0.972
    # The square of 32 px meets the disc: all centres in the disc grown by the square, uniformly.
    x, y = (centers - DISC_UM).T
    outside = np.hypot(np.maximum(abs(x) - 16 * 0.972, 0), np.maximum(abs(y) - 16 * 0.972, 0))
    assert outside.max() <= RADIUS_UM + 1.0
    half = 16 * 0.972
    area = np.pi * RADIUS_UM**2 + 4 * RADIUS_UM * 2 * half + 4 * half**2
    inner = (np.hypot(x, y) < 25).mean()
    assert inner == pytest.approx(np.pi * 25**2 / area, abs=0.03)
    assert abs(x.mean()) < 2.5
    assert abs(y.mean()) < 2.5


def test_normal_patches_keep_their_margin(tmp_path):
    cohort = (disc_slide(tmp_path, "a"),)
    source = SlideBatches(cohort, BatchPlan(SPEC, replace(SETTINGS, normal_margin_um=30.0), 8, seed=1))
    source.prepare(threads=1)
    (indexed,) = source._reader.indexed
    rng = np.random.default_rng(0)
    centers = np.array(
        [(p.center.x, p.center.y) for p in (indexed.locations.draw(0, indexed.reference, rng) for _ in range(800))]
    )
    x, y = abs(centers * 0.972 - DISC_UM).T
    reach = 16 * 0.972 + 30
    distance = np.hypot(np.maximum(x - reach, 0), np.maximum(y - reach, 0))
    assert distance.min() > RADIUS_UM - 1
    assert distance.min() < RADIUS_UM + 30


def test_normal_patches_are_tissue(tmp_path):
    tumour = disc_slide(tmp_path, "a", disc_um=(500.0, 200.0))
    source = SlideBatches((tumour, normal_slide(tmp_path, "n", glass_um=350.0)), BatchPlan(SPEC, SETTINGS, 64, seed=1))
    batch = source.batch(0)
    middle = batch.images[batch.labels == 0][:, 47:49, 47:49].mean(axis=(1, 2))
    glass = (abs(middle - np.array(GLASS)) < 12).all(axis=1)
    # A coarse cell at the edge of the tissue may be half glass.
    assert glass.mean() < 0.15


def test_class_first_then_slide(slides):
    source = SlideBatches(slides, BatchPlan(SPEC, replace(SETTINGS, tumour_share=0.25), 30, seed=2))
    assert source.counts == (4, 2)
    labels = [source.batch(k).labels for k in range(20)]
    # 7.5 of 30: seven or eight, each as often.
    assert {int(batch.sum()) for batch in labels} == {7, 8}
    seen = Counter()
    read = source._reader._slide
    source._reader._slide = lambda index, indexed: (seen.update([(index)]), read(index, indexed))[1]
    for k in range(20):
        source.batch(k)
    normal = 22.5 * 20
    # The small disc's slide gives as many tumour patches as the large one's, and all slides as many normal ones.
    assert seen[0] == pytest.approx(normal / 4 + 75, abs=35)
    assert seen[1] == pytest.approx(normal / 4 + 75, abs=35)
    assert seen[2] == pytest.approx(normal / 4, abs=35)


def test_slides_that_are_not_annotated_exhaustively_give_no_normal_patch(slides):
    partly = (replace(slides[0], exhaustive=False), slides[1], slides[2])
    assert SlideBatches(partly, BatchPlan(SPEC, SETTINGS, 4, seed=0)).counts == (2, 2)
    # Tumour without an outline is of no use either way.
    unknown = replace(slides[3], tumour=True)
    assert SlideBatches((*partly, unknown), BatchPlan(SPEC, SETTINGS, 4, seed=0)).counts == (2, 2)


def same(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def batches_elsewhere(streams, number, connection):
    connection.send([pickle.loads(data).batch(number) for data in streams])
    connection.close()


def test_a_batch_is_the_same_in_another_process_and_after_other_batches(slides):
    streams, expected = [], []
    for prepared in (True, False):
        source = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 12, seed=7))
        if prepared:
            source.prepare(threads=2)
        streams.append(pickle.dumps(source))
        expected.append(source.batch(5))
        for number in (0, 9, 1):
            source.batch(number)
        assert same(source.batch(5), expected[-1]), prepared
        assert not same(source.batch(6), expected[-1]), prepared
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=batches_elsewhere, args=(streams, 5, there))
    process.start()
    for batch, wanted in zip(here.recv(), expected, strict=True):
        assert same(batch, wanted)
    process.join()


def test_a_prepared_stream_pickles_small_and_with_nothing_open(slides):
    source = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 12, seed=7))
    source.batch(0)
    data = pickle.dumps(source)
    assert len(data) < 150_000
    assert not pickle.loads(data)._reader._open


def test_only_so_many_slides_stay_open(slides):
    source = SlideBatches(slides, BatchPlan(SPEC, replace(SETTINGS, open_slides=2), 12, seed=7))
    wide = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 12, seed=7))
    assert all(same(source.batch(k), wide.batch(k)) for k in range(3))
    assert len(source._reader._open) == 2
    assert len(wide._reader._open) == 4
    # How many is no part of what decides the batches.
    assert source.fingerprint == wide.fingerprint


@pytest.mark.parametrize("reference", ["tif", "png"])
def test_a_slide_that_is_closed_closes_its_mask(tmp_path, reference):
    cohort = [disc_slide(tmp_path, name, reference=reference) for name in "abc"]
    source = SlideBatches(cohort, BatchPlan(SPEC, replace(SETTINGS, open_slides=1), 12, seed=7))
    wide = SlideBatches(cohort, BatchPlan(SPEC, SETTINGS, 12, seed=7))
    for number in range(3):
        assert same(source.batch(number), wide.batch(number))
        (kept,) = source._reader._open
        opened = {k for k, indexed in enumerate(source._reader.indexed) if indexed.reference._mask._opened is not None}
        assert opened <= {kept}
    assert all(indexed.reference._mask._opened is not None for indexed in wide._reader.indexed)


def test_the_fingerprint_knows_what_decides_the_batches(slides, tmp_path):
    def fingerprint(*, of=slides, spec=SPEC, settings=SETTINGS, batch_size=12, seed=7):
        return SlideBatches(of, BatchPlan(spec, settings, batch_size, seed)).fingerprint

    first = fingerprint()
    moved = replace(slides[0], path=tmp_path / slides[0].path.name, annotation=tmp_path / "elsewhere.xml")
    shutil.copy(slides[0].path, moved.path)
    shutil.copy(slides[0].annotation, moved.annotation)
    assert fingerprint(of=(moved, *slides[1:])) == first
    moved.annotation.write_text(moved.annotation.read_text().replace("720", "721") + " ")
    others = {
        fingerprint(of=(moved, *slides[1:])),
        fingerprint(of=slides[::-1]),
        fingerprint(spec=replace(SPEC, mpp=0.5)),
        fingerprint(settings=replace(SETTINGS, label_share=0.5)),
        fingerprint(batch_size=13),
        fingerprint(seed=8),
    }
    assert len(others) == 6
    assert first not in others


def test_a_slide_that_fails_is_named_once_and_passed_over(slides, tmp_path, caplog):
    doomed = replace(slides[2], path=tmp_path / "doomed.tif", name="doomed")
    shutil.copy(slides[2].path, doomed.path)
    journal = tmp_path / "failures.jsonl"
    source = SlideBatches((*slides[:2], doomed, slides[3]), BatchPlan(SPEC, SETTINGS, 24, seed=4, journal=journal))
    source.prepare(threads=1)
    fresh = pickle.dumps(source)
    whole = [source.batch(k) for k in range(3)]
    assert source.failures == ()
    source.close()
    doomed.path.unlink()
    batches = [source.batch(k) for k in range(3)]
    (failure,) = source.failures
    assert failure.slide == "doomed"
    assert "does not exist" in failure.reason
    assert sum("doomed" in record.message for record in caplog.records) == 1
    for before, after in zip(whole, batches, strict=True):
        np.testing.assert_array_equal(before.labels, after.labels)
        # Patches of other slides are those that they were.
        assert 0 < sum(np.array_equal(a, b) for a, b in zip(before.images, after.images, strict=True)) < 24
    # Another process finds the same, and its failures are heard of here.
    other = pickle.loads(fresh)
    assert same(other.batch(2), batches[2])
    assert pickle.loads(fresh).failures == source.failures
    assert len(journal.read_text().splitlines()) == 1


@pytest.mark.parametrize("error", [RuntimeError("odd"), MemoryError(), RecursionError("deep"), struct.error("short")])
def test_whatever_a_slide_raises_it_is_left_out_and_named(slides, monkeypatch, error):
    opened = slide_index.open_indexed

    def fail(slide):
        if slide.name == slides[2].name:
            raise error
        return opened(slide)

    monkeypatch.setattr(slide_index, "open_indexed", fail)
    source = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 24, seed=4))
    source.batch(0)
    (failure,) = source.failures
    assert failure.slide == slides[2].name
    assert type(error).__name__ in failure.reason


def away(slide, tmp_path):
    return replace(slide, path=tmp_path / "away" / slide.path.name)


def test_a_slide_that_is_away_when_a_run_goes_on_keeps_its_place_in_every_draw(slides, tmp_path):
    begun = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 24, seed=4))
    whole = [begun.batch(k) for k in range(3)]
    later = SlideBatches((*slides[:2], away(slides[2], tmp_path), slides[3]), BatchPlan(SPEC, SETTINGS, 24, seed=4))
    assert later.fingerprint != begun.fingerprint
    later.resume_with(begun.seen)
    assert later.fingerprint == begun.fingerprint
    assert [failure.slide for failure in later.failures] == [slides[2].name]
    data = pickle.dumps(later)
    for number, before in enumerate(whole):
        after = later.batch(number)
        np.testing.assert_array_equal(before.labels, after.labels)
        kept = sum(np.array_equal(a, b) for a, b in zip(before.images, after.images, strict=True))
        # Patches of other slides are those that they were.
        assert 12 < kept < 24
        assert same(pickle.loads(data).batch(number), after)
    # What goes on from there, with the slide back, is the run that it was.
    back = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 24, seed=4))
    back.resume_with(later.seen)
    assert same(back.batch(2), whole[2])


def test_a_slide_that_could_not_be_read_when_a_run_began_stays_left_out(slides, tmp_path):
    begun = SlideBatches((slides[0], away(slides[1], tmp_path), *slides[2:]), BatchPlan(SPEC, SETTINGS, 24, seed=4))
    whole = begun.batch(3)
    later = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 24, seed=4))
    assert not same(later.batch(3), whole)
    later.resume_with(begun.seen)
    assert later.fingerprint == begun.fingerprint
    assert later.counts == begun.counts == (3, 1)
    assert same(later.batch(3), whole)


def test_other_slides_are_no_run_to_go_on_with(slides):
    begun = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 24, seed=4))
    fewer = SlideBatches(slides[:3], BatchPlan(SPEC, SETTINGS, 24, seed=4))
    exchanged = replace(slides[2], path=slides[3].path)
    other = SlideBatches((*slides[:2], exchanged, slides[3]), BatchPlan(SPEC, SETTINGS, 24, seed=4))
    for source in (fewer, other):
        source.resume_with(begun.seen)
        assert source.fingerprint != begun.fingerprint


def test_a_damaged_tile_costs_one_patch_wherever_it_is_met(slides, tmp_path):
    damaged = replace(slides[2], path=tmp_path / "damaged.tif", name="damaged")
    shutil.copy(slides[2].path, damaged.path)
    source = SlideBatches((*slides[:2], damaged), BatchPlan(SPEC, SETTINGS, 24, seed=4))
    source.prepare(threads=1)
    fresh = pickle.dumps(source)
    with tifffile.TiffFile(damaged.path) as tiff:
        # The level that is read, a quarter of its tiles.
        page = tiff.pages[1]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    with damaged.path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(count))
    batches = [source.batch(k) for k in range(6)]
    assert [failure.slide for failure in source.failures] == ["damaged"]
    other = pickle.loads(fresh)
    assert all(same(other.batch(k), batches[k]) for k in (5, 2))


def test_a_class_without_a_slide_stops_the_run(slides, tmp_path):
    with pytest.raises(TrainingError, match="expected slides that give tumour patches, got none of 2; check"):
        SlideBatches(slides[2:], BatchPlan(SPEC, SETTINGS, 4, seed=0)).batch(0)
    missing = replace(slides[2], path=tmp_path / "none.tif", name="missing")
    with pytest.raises(TrainingError, match=r"give normal patches, got none of 2; .*missing: .*does not exist"):
        SlideBatches((replace(slides[0], exhaustive=False), missing), BatchPlan(SPEC, SETTINGS, 4, seed=0)).batch(0)


def test_a_run_stops_where_every_slide_of_a_class_has_failed(slides, tmp_path):
    path = tmp_path / "only.tif"
    shutil.copy(slides[2].path, path)
    only = replace(slides[2], path=path, name="only")
    source = SlideBatches((replace(slides[0], exhaustive=False), only), BatchPlan(SPEC, SETTINGS, 4, seed=0))
    source.batch(0)
    source.close()
    path.unlink()
    with pytest.raises(TrainingError, match=r"normal patches, but none of 1 can be read any more \(failed: only\)"):
        source.batch(1)


def test_an_outline_without_a_pixel_gives_no_tumour_patch(slides, tmp_path):
    speck = disc_slide(tmp_path, "speck", radius_um=0.001)
    source = SlideBatches((speck, slides[0]), BatchPlan(SPEC, SETTINGS, 4, seed=0))
    assert source.counts == (2, 1)


def test_preparing_reports_and_stops(slides):
    source = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 4, seed=0))
    told = []
    assert not source.prepare(threads=1, should_stop=lambda: True)
    assert source.prepare(threads=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 4) for k in (1, 2, 3, 4)]


def test_the_value_of_tumour_is_that_of_all_masks(slides, tmp_path):
    size = Size(300, 200)
    normal, tumour = tmp_path / "n_mask.tif", tmp_path / "t_mask.tif"
    write_mask(normal, size, (50, 40), 10, 0.486, values=(0, 1))
    write_mask(tumour, size, (50, 40), 10, 0.486, values=(1, 2))
    broken = tmp_path / "broken_mask.png"
    broken.write_bytes(b"no")
    marked = [CohortSlide(name=p.stem, path=p, annotation=p) for p in (normal, broken, tumour)]
    assert tumour_value_of([*slides, *marked]) == 2
    assert tumour_value_of(marked[:2]) == 1


@pytest.mark.parametrize(
    ("patch_px", "share", "label_px"), [(96, 1 / 3, 32), (244, 1 / 3, 82), (97, 0.01, 1), (96, 1, 96)]
)
def test_the_square_that_decides_is_central(patch_px, share, label_px):
    shape = PatchShape.of(patch_px, replace(SETTINGS, label_share=share), 0.972)
    assert shape.label_px == label_px
    patch = shape.patch_at(500, 400)
    square = shape.label_square(patch)
    assert square.center == patch.center
    assert square.width == square.height == label_px
    assert shape.label_square(patch, margin_px=3) == Region(square.x - 3, square.y - 3, label_px + 6, label_px + 6)


def test_cells_are_drawn_by_their_number():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (5, 9), (40, 33)):
        for share in (0.0, 0.1, 0.9, 1.0):
            mask = rng.random(shape) < share
            cells = CellSet(mask)
            rows, columns = np.nonzero(mask)
            assert len(cells) == len(rows)
            assert [cells.cell(k) for k in range(len(cells))] == list(zip(columns.tolist(), rows.tolist(), strict=True))
            held = [[cells.holds(x, y) for x in range(-1, shape[1] + 1)] for y in range(-1, shape[0] + 1)]
            np.testing.assert_array_equal(held, np.pad(mask, 1))


def test_the_grid_of_cells_begins_at_the_slides_corner(slides):
    source = SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 4, seed=0))
    source.prepare(threads=1)
    locations = source._reader.indexed[0].locations
    with open_slide(slides[0].path) as slide:
        assert locations.frame == slide.frame(SPEC.mpp)
    grid = HeatmapFrame(model=ModelFrame(2.0, 0.486, Size(720, 576)), patch_px=33, stride_px=33)
    assert locations.cell_px == 33
    assert (grid.cell_corner(0, 0).x, grid.cell_corner(2, 1).x) == (0.0, 132.0)


def test_a_torn_line_of_the_journal_is_passed_over(tmp_path):
    journal = tmp_path / "failures.jsonl"
    journal.write_bytes(b'{"slide": "a", "reason": "gone"}\n{"slide": "a", "reason": "later"}\n{"slide": "b", "rea\xc3')
    assert read_failures(journal) == (SlideFailure("a", "gone"),)
    assert read_failures(tmp_path / "none.jsonl") == ()
