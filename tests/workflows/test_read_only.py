"""A finished scan on a read-only disk is read; one that is not finished says where to go on."""

from __future__ import annotations

import os

import numpy as np
import pytest
from read_only import make_read_only
from scans import SCAN, scan_with

from napari_metastasis.errors import StorageError, StorageWarning
from napari_metastasis.geometry import Region
from napari_metastasis.settings import DetectionSettings, RefineSettings
from napari_metastasis.workflows.scan import earlier_result


def run(slide, model, output, **changes):
    return scan_with(slide, model, output, scan=SCAN, **changes)


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("how", [{}, {"refine": RefineSettings(refine=True)}], ids=["plain", "refined"])
def test_a_finished_scan_is_read_and_nothing_is_written(slide, model, refiner, tmp_path, monkeypatch, how):
    output = tmp_path / "out"
    how = {**how, "refiner": refiner} if how else how
    first = run(slide, model, output, **how)
    before = listing(output)
    make_read_only(monkeypatch, output)
    with pytest.warns(StorageWarning, match=r"read-only .*--output; what was found there before is shown"):
        again = run(slide, model, output, **how)
    assert again.finished
    assert again.lesions == first.lesions
    assert again.slide_score == first.slide_score
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    assert listing(output) == before
    # Its lesions at another threshold need no disk.
    with pytest.warns(StorageWarning):
        assert run(slide, model, output, detection=DetectionSettings(threshold=0.3), **how).lesions
    assert earlier_result(slide, output).threshold == 0.5


def test_what_only_the_folder_refuses_is_no_obstacle_either(slide, model, tmp_path, monkeypatch):
    output = tmp_path / "out"
    first = run(slide, model, output)
    opened = os.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_CREAT and os.path.dirname(path) == str(output):
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.warns(StorageWarning, match="no permission"):
        assert run(slide, model, output).lesions == first.lesions


@pytest.mark.parametrize(
    "again", [{}, {"refine": RefineSettings(refine=True)}], ids=["the rest of the slide", "the refinement"]
)
def test_a_scan_that_is_not_finished_names_the_option(slide, model, refiner, tmp_path, monkeypatch, again):
    output = tmp_path / "out"
    run(slide, model, output, region=None if again else Region(0, 0, 200, 200))
    before = listing(output)
    make_read_only(monkeypatch, output)
    with pytest.raises(
        StorageError, match=r"a read-only file system; choose a folder on a writable disk with --output$"
    ):
        run(slide, model, output, **({**again, "refiner": refiner} if again else {}))
    assert listing(output) == before


def test_a_full_disk_is_told_as_before(slide, model, tmp_path, monkeypatch):
    output = tmp_path / "out"
    run(slide, model, output)

    def refuse(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="a full disk"):
        run(slide, model, output)
