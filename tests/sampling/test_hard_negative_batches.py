"""Mined patches: they show what was mined, never tumour, from every slide alike; and sheets of them."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import torch
from cohort_files import TISSUE, TUMOUR, write_outline, write_slide
from dark_model import dark_model
from scans import scan_with

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import SettingsError, StorageError, TrainingError
from napari_metastasis.geometry import HeatmapFrame, Point
from napari_metastasis.models import ModelSpec
from napari_metastasis.sampling.batches import MixedBatches
from napari_metastasis.sampling.class_balanced import SlideBatches
from napari_metastasis.sampling.hard_negative_batches import HardNegativeBatches, with_hard_negatives
from napari_metastasis.sampling.hard_negatives import HardNegative
from napari_metastasis.sampling.slide_batches import BatchPlan
from napari_metastasis.settings import (
    MiningSettings,
    SamplingSettings,
    ScanSettings,
)
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.train.contact_sheet import contact_sheet, draw_hard_negatives
from napari_metastasis.workflows.train.false_positives import mine_slide

SPEC = ModelSpec(name="test", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=8)
SETTINGS, MINING = SamplingSettings(patches_per_epoch=64), MiningSettings()
#: A mimic, painted as tumour is, and a lesion at the slide's other end.
MIMIC_UM, MIMIC_RADIUS_UM = (431.0, 263.0), 14.0
LESION_UM, LESION_RADIUS_UM = (190.0, 250.0), 60.0


def is_dark(patches):
    return (patches < (np.array(TUMOUR) + np.array(TISSUE)) / 2).all(axis=-1)


def mimic_slide(folder, name, *, mpp=0.486, seed=0):
    """Write a slide that shows the mimic; the lesion is outlined only, so that all that is dark is the mimic."""
    path = folder / f"{name}.tif"
    write_slide(path, mpp=mpp, disc_um=MIMIC_UM, radius_um=MIMIC_RADIUS_UM, seed=seed)
    write_outline(path.with_suffix(".xml"), LESION_UM, LESION_RADIUS_UM, mpp)
    return CohortSlide(name=name, path=path, annotation=path.with_suffix(".xml"), tumour=True)


def mine(slide, places_um, *, mining=MINING, probability=0.9):
    """Mine a map on which one cell fires at each location."""
    with open_slide(slide.path) as opened:
        frame = HeatmapFrame(model=opened.frame(SPEC.mpp), patch_px=SPEC.patch_px, stride_px=SPEC.stride_px)
        mpp = opened.mpp
    values = np.zeros(frame.cells.shape, dtype=np.float32)
    for x, y in places_um:
        cell = frame.cell_at(Point(x / mpp, y / mpp))
        values[round(cell.y), round(cell.x)] = probability
    return mine_slide(slide, values, frame, mining, SETTINGS, tumour_value=2, patch_px=SPEC.patch_px)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mined")
    normal = folder / "normal.tif"
    write_slide(normal, seed=4, glass_um=100.0)
    return (
        mimic_slide(folder, "first"),
        mimic_slide(folder, "second", seed=1),
        CohortSlide(name="normal", path=normal, tumour=False),
    )


@pytest.fixture(scope="module")
def mined(slides):
    """One location on the first slide, many on the second, none on the third."""
    many = [(x, y) for x in range(300, 600, 50) for y in range(80, 480, 50)]
    return mine(slides[0], [MIMIC_UM]) + mine(slides[1], many, mining=replace(MINING, mined_apart_um=40.0))


@pytest.mark.parametrize("mpp", [0.243, 0.486, 0.972])
def test_a_mined_patch_shows_in_its_middle_what_the_map_fired_at(tmp_path, mpp):
    slide = mimic_slide(tmp_path, "a", mpp=mpp)
    (location,) = mine(slide, [MIMIC_UM])
    # Half a cell of 8 px at most, along each axis.
    assert abs(location.x * mpp - MIMIC_UM[0]) <= 4.001 * 0.972
    assert abs(location.y * mpp - MIMIC_UM[1]) <= 4.001 * 0.972
    still = HardNegativeBatches(
        (slide,), (location,), BatchPlan(SPEC, SETTINGS, 2, 1), replace(MINING, mining_jitter_um=0.0)
    )
    first, second = still.batch(0).images
    np.testing.assert_array_equal(first, second)
    rows, columns = np.nonzero(is_dark(first))
    assert len(rows) == pytest.approx(np.pi * (MIMIC_RADIUS_UM / 0.972) ** 2, rel=0.1)
    # The patch's middle is the location, and the disc lies where it was painted, to half a pixel.
    x = location.x * mpp + (columns.mean() + 0.5 - 48) * 0.972
    y = location.y * mpp + (rows.mean() + 0.5 - 48) * 0.972
    assert (x, y) == pytest.approx(MIMIC_UM, abs=0.5)


def test_what_is_mined_is_the_patch_that_was_answered(tmp_path):
    slide = mimic_slide(tmp_path, "a")
    (location,) = mine(slide, [(520.0, 100.0)])
    source = HardNegativeBatches((slide,), (location,), BatchPlan(SPEC, SETTINGS, 1, 0), MINING)
    source.prepare(threads=1)
    with open_slide(slide.path) as opened:
        frame = HeatmapFrame(model=opened.frame(SPEC.mpp), patch_px=96, stride_px=8)
        cell = frame.cell_at(Point(location.x, location.y))
    corner = (round(cell.x) * 8 - frame.padding_px, round(cell.y) * 8 - frame.padding_px)
    assert source._reader.indexed[0].locations.corners.tolist() == [list(corner)]


def drawn_corners(source, number, count):
    indexed = source._reader.indexed[number]
    rng = np.random.default_rng(0)
    locations = [indexed.locations.draw(0, indexed.reference, rng) for _ in range(count)]
    return np.array([(location.x, location.y) for location in locations]), indexed.locations


def test_patches_are_shifted_a_little_and_evenly(slides, mined):
    source = HardNegativeBatches(slides, mined, BatchPlan(SPEC, SETTINGS, 4, 0), MINING)
    source.prepare(threads=2)
    corners, locations = drawn_corners(source, 0, 2000)
    shifts = corners - locations.corners[0]
    # 8 µm are 8.2 px.
    assert (shifts.min(), shifts.max()) == (-8, 8)
    assert abs(shifts.mean(axis=0)).max() < 0.5


def test_nothing_is_mined_or_shifted_into_tumour_or_near_it(tmp_path):
    slide = mimic_slide(tmp_path, "a")
    # Along a line from the lesion outwards; the label square is 32 px, 31.1 µm, and its margin 17 px, 16.5 µm.
    edge = LESION_UM[0] + LESION_RADIUS_UM
    line = [(edge + d, LESION_UM[1]) for d in range(-60, 100, 8)]
    found = mine(slide, line, mining=replace(MINING, mined_apart_um=0.0))
    distance = np.array(sorted(location.x * 0.486 - edge for location in found))
    reach = (16 + 17) * 0.972
    assert distance[0] > reach - 1
    assert distance[0] < reach + 8.8
    nearest = min(found, key=lambda location: location.x)
    source = HardNegativeBatches(
        (slide,), (nearest,), BatchPlan(SPEC, SETTINGS, 4, 0), replace(MINING, mining_jitter_um=30.0)
    )
    source.prepare(threads=1)
    corners, locations = drawn_corners(source, 0, 500)
    middles = (corners + 48) * 0.972
    x, y = abs(middles - LESION_UM).T
    clear = np.hypot(np.maximum(x - reach, 0), np.maximum(y - reach, 0))
    assert clear.min() > LESION_RADIUS_UM - 1
    # It is shifted all the same, away from the lesion and along it.
    assert np.ptp(corners, axis=0).min() > 20
    assert locations.near.all()


def test_every_slide_comes_equally_often(slides, mined):
    source = HardNegativeBatches(slides, mined, BatchPlan(SPEC, SETTINGS, 40, 3), MINING)
    seen = []
    read = source._reader._slide
    source._reader._slide = lambda index, indexed: (seen.append(index), read(index, indexed))[1]
    batches = [source.batch(k) for k in range(5)]
    assert all(batch.labels.tolist() == [0] * 40 for batch in batches)
    assert all(batch.images.shape == (40, 96, 96, 3) for batch in batches)
    # One location on the one, tens on the other.
    assert seen.count(0) == pytest.approx(100, abs=25)
    assert seen.count(0) + seen.count(1) == 200
    assert source.batches_per_epoch == max(1, len(mined) // 40)


def same(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def batch_elsewhere(data, number, connection):
    connection.send(pickle.loads(data).batch(number))
    connection.close()


def test_a_batch_follows_from_its_number_here_and_in_another_process(slides, mined):
    source = HardNegativeBatches(slides, mined, BatchPlan(SPEC, SETTINGS, 6, 7), MINING)
    source.prepare(threads=1)
    expected = source.batch(5)
    source.batch(0)
    assert same(source.batch(5), expected)
    assert not same(source.batch(6), expected)
    data = pickle.dumps(source)
    assert not pickle.loads(data)._reader._open
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=batch_elsewhere, args=(data, 5, there))
    process.start()
    assert same(here.recv(), expected)
    process.join()
    fresh = HardNegativeBatches(slides, mined, BatchPlan(SPEC, SETTINGS, 6, 7), MINING)
    assert same(fresh.batch(5), expected)
    assert fresh.fingerprint == source.fingerprint


def test_the_fingerprint_knows_what_decides_the_batches(slides, mined):
    def fingerprint(*, locations=mined, settings=SETTINGS, mining=MINING, batch_size=6, seed=7):
        return HardNegativeBatches(slides, locations, BatchPlan(SPEC, settings, batch_size, seed), mining).fingerprint

    moved = (replace(mined[0], x=mined[0].x + 1), *mined[1:])
    prints = [
        fingerprint(),
        fingerprint(locations=mined[::-1]),
        fingerprint(locations=moved),
        fingerprint(settings=replace(SETTINGS, normal_margin_um=3.0)),
        fingerprint(mining=replace(MINING, mining_jitter_um=3.0)),
        fingerprint(batch_size=7),
        fingerprint(seed=8),
    ]
    assert len(set(prints)) == len(prints)
    # How the locations were mined is past.
    assert fingerprint(mining=replace(MINING, mining_threshold=0.9)) == prints[0]


def test_a_slide_that_fails_is_named_once_and_passed_over(slides, mined, tmp_path, caplog):
    doomed = replace(slides[0], path=tmp_path / "first.tif")
    shutil.copy(slides[0].path, doomed.path)
    journal = tmp_path / "failures.jsonl"
    source = HardNegativeBatches(
        (doomed, slides[1]), mined, BatchPlan(SPEC, SETTINGS, 8, seed=7, journal=journal), MINING
    )
    whole = source.batch(0)
    source.close()
    doomed.path.unlink()
    batch = source.batch(0)
    (failure,) = source.failures
    assert failure.slide == "first"
    assert 0 < sum(np.array_equal(a, b) for a, b in zip(whole.images, batch.images, strict=True)) < 8
    assert sum("first" in record.message for record in caplog.records) == 1
    # One that is gone at the start is left out likewise; where all are gone, there is nothing to train on.
    late = HardNegativeBatches((doomed, slides[1]), mined, BatchPlan(SPEC, SETTINGS, 8, 7), MINING)
    late.batch(0)
    assert [failure.slide for failure in late.failures] == ["first"]
    with pytest.raises(TrainingError, match=r"expected slides that give normal patches, got none of 1; .*first"):
        HardNegativeBatches((doomed,), mined[:1], BatchPlan(SPEC, SETTINGS, 8, 7), MINING).batch(0)


def test_places_that_have_become_tumour_are_left_out(slides, tmp_path, caplog):
    slide = slides[1]
    locations = mine(slide, [MIMIC_UM, (560.0, 100.0)])
    annotated = replace(slide, annotation=tmp_path / "later.xml")
    write_outline(annotated.annotation, MIMIC_UM, MIMIC_RADIUS_UM, 0.486)
    source = HardNegativeBatches((annotated,), locations, BatchPlan(SPEC, SETTINGS, 12, 1), MINING)
    assert not is_dark(source.batch(0).images).any()
    assert "second: 1 of 2 mined locations are tumour now and left out" in caplog.text
    (mimic,) = mine(slide, [MIMIC_UM])
    with pytest.raises(
        TrainingError, match=r"\(second: expected normal tissue where 1 locations were mined, got tumour"
    ):
        HardNegativeBatches((annotated,), (mimic,), BatchPlan(SPEC, SETTINGS, 12, 1), MINING).batch(0)
    partly = replace(slide, exhaustive=False)
    assert mine(partly, [MIMIC_UM]) == ()
    with pytest.raises(TrainingError, match="mine again"):
        HardNegativeBatches((partly,), locations, BatchPlan(SPEC, SETTINGS, 12, 1), MINING).batch(0)


def test_places_of_another_cohort_are_refused(slides, mined):
    with pytest.raises(TrainingError, match="mined on the 2 slides at hand, got some on first; mine this cohort again"):
        HardNegativeBatches(slides[1:], mined, BatchPlan(SPEC, SETTINGS, 4, 0), MINING)
    with pytest.raises(TrainingError, match="expected mined locations, got none; train without them"):
        HardNegativeBatches(slides, (), BatchPlan(SPEC, SETTINGS, 4, 0), MINING)


def test_mined_patches_take_their_share_and_tumour_keeps_its_own(slides, mined):
    source = with_hard_negatives(slides, mined, BatchPlan(SPEC, SETTINGS, 32, 5), MINING)
    assert isinstance(source, MixedBatches)
    general, hard = source.parts
    assert (general.plan.batch_size, hard.plan.batch_size) == (24, 8)
    assert source.batches_per_epoch == 2
    labels = np.concatenate([source.batch(k).labels for k in range(6)])
    assert labels.mean() == pytest.approx(0.5, abs=0.01)
    assert same(pickle.loads(pickle.dumps(source)).batch(3), source.batch(3))
    with pytest.raises(SettingsError, match=r"leave room for other normal patches, got 0\.5 and 0\.5; lower one"):
        with_hard_negatives(slides, mined, BatchPlan(SPEC, SETTINGS, 32, 5), replace(MINING, mined_share=0.5))


def test_where_nothing_was_mined_training_goes_on_without(slides):
    source = with_hard_negatives(slides, (), BatchPlan(SPEC, SETTINGS, 32, 5), MINING)
    assert isinstance(source, SlideBatches)
    assert same(source.batch(0), SlideBatches(slides, BatchPlan(SPEC, SETTINGS, 32, 5)).batch(0))


def test_a_contact_sheet_holds_every_pixel_and_the_same_bytes_each_time(tmp_path):
    rng = np.random.default_rng(0)
    patches = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(103)]
    captions = [f"0.{999 - k}\nslide_$x${'_long' * 9}_{k}" for k in range(103)]
    pages = contact_sheet(tmp_path / "mined.png", patches, captions)
    assert [page.name for page in pages] == ["mined.png", "mined-2.png"]
    again = contact_sheet(tmp_path / "again.png", patches, captions)
    assert [page.read_bytes() for page in pages] == [page.read_bytes() for page in again]
    first, second = (imagecodecs.png_decode(page.read_bytes())[..., :3] for page in pages)
    for number, patch in enumerate(patches):
        row, column = divmod(number % 100, 10)
        x, y = 8 + column * 136, 8 + row * 132
        page = first if number < 100 else second
        np.testing.assert_array_equal(page[y : y + 96, x : x + 96], patch)
        # Something is written below, and stays below.
        assert (page[y + 96 : y + 132, x : x + 128] < 128).any()
        assert (page[y : y + 132, x + 130 : x + 136] > 250).all()
    assert contact_sheet(tmp_path / "none.png", [], []) == ()
    assert not (tmp_path / "none.png").exists()


def test_what_was_mined_is_drawn_strongest_first(slides, mined, tmp_path, caplog):
    weak = HardNegative("first", mined[0].x, mined[0].y, 0.6)
    gone = replace(slides[2], path=tmp_path / "gone.tif", name="gone")
    lost = HardNegative("gone", 100.0, 100.0, 0.8)
    pages = draw_hard_negatives(tmp_path / "mined.png", (weak, mined[1], lost), (*slides, gone), SPEC, most=2)
    assert len(pages) == 1
    page = imagecodecs.png_decode(pages[0].read_bytes())[..., :3]
    assert page.shape[1] == 8 + 2 * 136
    still = replace(MINING, mining_jitter_um=0.0)
    shown = HardNegativeBatches(slides, (mined[1],), BatchPlan(SPEC, SETTINGS, 1, 0), still).batch(0).images[0]
    np.testing.assert_array_equal(page[8:104, 8:104], shown)
    assert (page[8:104, 144:240] == 200).all()
    assert "gone: not all mined patches can be drawn" in caplog.text
    with pytest.raises(StorageError, match="create it, or choose another folder"):
        draw_hard_negatives(tmp_path / "no" / "mined.png", mined, slides, SPEC, most=1)


@pytest.mark.parametrize("mpp", [0.243, 0.4, 0.486, 0.972])
def test_a_mined_patch_is_answered_as_the_scan_answered_there(tmp_path, mpp):
    slide, model = mimic_slide(tmp_path, "a", mpp=mpp), dark_model()
    with open_slide(slide.path) as opened:
        result = scan_with(
            opened,
            model,
            tmp_path / "out",
            scan=ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=160, tissue_only=False),
        )
    mining = replace(MINING, mining_threshold=0.3, mined_apart_um=6.0, mining_jitter_um=0.0)
    mined = mine_slide(
        slide, result.probabilities, result.frame, mining, SETTINGS, tumour_value=2, patch_px=SPEC.patch_px
    )
    assert len(mined) > 5
    for location in mined:
        assert np.hypot(location.x * mpp - MIMIC_UM[0], location.y * mpp - MIMIC_UM[1]) < MIMIC_RADIUS_UM + 6
        source = HardNegativeBatches((slide,), (location,), BatchPlan(model.spec, SETTINGS, 1, 0), mining)
        pixels = torch.from_numpy(source.batch(0).images).permute(0, 3, 1, 2).float() / 255
        answer = model.network(pixels).softmax(dim=1)[0, 1].item()
        assert answer == pytest.approx(location.probability, abs=1e-5)
