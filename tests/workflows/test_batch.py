"""Many slides in a row: one that fails harms no other, and what was scanned is not scanned again."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from dark_model import dark_model
from scans import SCAN

from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.errors import CohortError, ScanCancelledError, StorageError
from napari_metastasis.geometry import Size
from napari_metastasis.models import ScanModels
from napari_metastasis.slides import write_pyramid
from napari_metastasis.workflows.scan import (
    EngineCache,
    FailedSlide,
    ScanJob,
    ScannedSlide,
    batch,
    cohort_output,
    scan_cohort,
)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two small slides with a dark square, and between them a file that is no slide."""
    folder = tmp_path_factory.mktemp("cohort")
    found = []
    for name, corner in (("first", 200), ("broken", None), ("last", 500)):
        path = folder / f"{name}.tif"
        if corner is None:
            path.write_bytes(b"no slide")
        else:
            pixels = np.full((900, 900, 3), 245, np.uint8)
            pixels[100:800, 100:800] = (225, 150, 195)
            pixels[corner : corner + 200, corner : corner + 200] = (90, 30, 110)
            write_pyramid(path, pixels, mpp=0.972, size=Size(900, 900), compression="deflate")
        found.append(CohortSlide(name=name, path=path))
    return found


def scan(slides, output, **how):
    with EngineCache(lambda _: ScanModels(dark_model())) as engines:
        job = ScanJob(slide=output, model="in memory", scan=SCAN)
        return list(scan_cohort(slides, job, output=output, engines=engines, **how))


def test_a_slide_that_fails_is_named_and_the_others_are_scanned(slides, tmp_path):
    steps = []
    first, broken, last = scan(slides, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert isinstance(first, ScannedSlide)
    assert isinstance(last, ScannedSlide)
    assert isinstance(broken, FailedSlide)
    assert "broken.tif" in broken.reason
    assert "\n" not in broken.reason
    for scanned, corner in ((first, 200), (last, 500)):
        (lesion,) = scanned.result.lesions
        assert lesion.x == pytest.approx(corner + 100, abs=16)
        assert (cohort_output(tmp_path, scanned.slide) / "detections.csv").exists()
    assert steps == sorted(steps)
    assert steps[-1] == (3000, 3000)


def test_what_was_scanned_is_not_scanned_again(slides, tmp_path):
    before = scan(slides, tmp_path)
    again = scan(slides, tmp_path)
    assert [type(entry) for entry in again] == [type(entry) for entry in before]
    for old, new in zip(before, again, strict=True):
        if isinstance(new, ScannedSlide):
            assert new.result.mpx_per_s == 0
            np.testing.assert_array_equal(new.result.probabilities, old.result.probabilities)


def test_a_stop_is_told_from_a_failure(slides, tmp_path):
    asked = []

    def stop_soon():
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(ScanCancelledError):
        scan(slides, tmp_path, should_stop=stop_soon)


def test_slides_of_one_name_would_share_their_results(slides, tmp_path):
    with pytest.raises(CohortError, match="got first twice"):
        scan([slides[0], slides[0]], tmp_path)


def failing(monkeypatch, error):
    """Let the scan of the first slide raise."""
    whole = batch.scan_slide

    def fail(job, *arguments, **options):
        if job.slide.stem == "first":
            raise error
        return whole(job, *arguments, **options)

    monkeypatch.setattr(batch, "scan_slide", fail)


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), MemoryError("odd"), RecursionError("odd"), struct.error("odd"), KeyError("odd")]
)
def test_whatever_a_slide_raises_the_others_are_scanned(slides, tmp_path, monkeypatch, error):
    failing(monkeypatch, error)
    first, _, last = scan(slides, tmp_path)
    assert isinstance(first, FailedSlide)
    assert first.reason.startswith(f"unexpected {type(error).__name__}: ")
    assert isinstance(last, ScannedSlide)


@pytest.mark.parametrize(
    "error", [StorageError("expected room, got none"), KeyboardInterrupt(), ScanCancelledError("x")]
)
def test_the_disk_and_a_stop_end_all(slides, tmp_path, monkeypatch, error):
    failing(monkeypatch, error)
    with pytest.raises(type(error)):
        scan(slides, tmp_path)


def test_a_name_that_is_too_long_for_its_folder_is_the_slides_own_fault(slides, tmp_path):
    long = tmp_path / f"{'x' * 246}.tif"
    long.symlink_to(slides[0].path)
    failed, scanned = scan([CohortSlide(name=long.stem, path=long), slides[2]], tmp_path / "out")
    assert "too long" in failed.reason
    assert failed.reason.endswith("rename the slide")
    assert isinstance(scanned, ScannedSlide)


def test_an_output_folder_that_goes_between_two_slides_is_not_made_again(slides, tmp_path):
    output = tmp_path / "out"
    with EngineCache(lambda _: ScanModels(dark_model())) as engines:
        job = ScanJob(slide=output, model="in memory", scan=SCAN)
        scans = scan_cohort(slides, job, output=output, engines=engines)
        next(scans)
        output.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="deleted, renamed or unmounted"):
            list(scans)
    assert not output.exists()
