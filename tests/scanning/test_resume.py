"""A scan that is killed goes on, and ends where an undisturbed one does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_metastasis.geometry import Region
from napari_metastasis.scanning import PROBABILITY, MapHeader, MapStore, TorchEngine, Wanted, plan_scan
from napari_metastasis.scanning.maps.journal import read_regions
from napari_metastasis.scanning.maps.ome_zarr import journal_path
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import open_slide

HELPERS = Path(__file__).parents[1] / "helpers"

#: Seconds for a subprocess to come as far as it has to; this machine may be busy.
PATIENCE_SECONDS = 120


def run_scan(slide_path: Path, store: Path, delay_seconds: float = 0.0) -> int:
    """Scan ``slide_path`` with the tiny network and return how many ROIs were computed."""
    from scanning_fakes import ArraySlide, scan, tiny_model

    model = tiny_model()
    computed = 0
    with open_slide(slide_path) as slide:
        frame = ArraySlide(np.zeros((slide.size.height, slide.size.width, 3), np.uint8)).heatmap_frame(model)
        engine = TorchEngine(model.dense(2), devices=("cpu",), precision="float32")
        header = MapHeader(kind=PROBABILITY, frame=frame, identity={"test": 1})
        with MapStore.open_or_create(store, header) as heatmap:
            plan = plan_scan(frame, Wanted(cells=Region.of(frame.cells), done=heatmap.done), roi_px=128)
            for _ in scan(slide, engine, plan, heatmap, ScanSettings(threads=2)):
                computed += 1
                time.sleep(delay_seconds)
    return computed


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_kill_minus_nine(tmp_path, slide_file, tissue_picture):
    slide_path = slide_file("killed.tif", tissue_picture, mpp=0.972)
    undisturbed, store = tmp_path / "undisturbed.zarr", tmp_path / "killed.zarr"
    everything = run_scan(slide_path, undisturbed)
    script = (
        f"import sys; sys.path.append({str(HELPERS)!r}); import test_resume; from pathlib import Path;"
        f"test_resume.run_scan(Path({str(slide_path)!r}), Path({str(store)!r}), 0.1)"
    )
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], cwd=Path(__file__).parent)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        journal = journal_path(store)
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None, "the scan ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = list(read_regions(journal_path(store)))
    assert 5 <= len(finished) < everything
    assert run_scan(slide_path, store) == everything - len(finished)
    with MapStore.open(store) as resumed, MapStore.open(undisturbed) as expected:
        regions = list(read_regions(journal_path(store)))
        assert regions[: len(finished)] == finished
        assert not any(not late.intersection(early).is_empty for early in finished for late in regions[len(finished) :])
        np.testing.assert_array_equal(resumed.values(), expected.values())
    assert run_scan(slide_path, store) == 0
