"""A slide of glass with a little tissue takes the memory of the tissue."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from dark_model import dark_model
from scans import SCAN, scan_with
from slide_files import write_empty_levels

from napari_metastasis.geometry import Size
from napari_metastasis.settings import TissueSettings
from napari_metastasis.slides import open_slide

SIDE_PX = 60_000


@pytest.fixture(scope="module")
def glass_path(tmp_path_factory):
    piece = np.full((512, 512, 3), (225, 150, 195), np.uint8)
    piece[100:400, 100:400] = (90, 30, 110)
    path = tmp_path_factory.mktemp("slides") / "glass.tif"
    write_empty_levels(path, Size(SIDE_PX, SIDE_PX), piece=piece, corner=(24_576, 36_864))
    return path


class Peak:
    """The most memory that this process holds from a moment on."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self.before_kb = self.told_kb("VmRSS")

    @staticmethod
    def told_kb(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    @property
    def grown_mb(self) -> float:
        return (self.told_kb("VmHWM") - self.before_kb) / 1e3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not forget a peak")
def test_glass_takes_no_memory(glass_path, tmp_path):
    scan = {"scan": SCAN, "tissue": TissueSettings(mpp=64.0)}
    with open_slide(glass_path) as slide:
        # What is imported and allocated once.
        scan_with(slide, dark_model(), tmp_path / "first", **scan)
        peak = Peak()
        result = scan_with(slide, dark_model(), tmp_path / "second", **scan)
        grown_mb = peak.grown_mb
    assert result.finished
    assert len(result.lesions) == 1
    byte_a_cell_mb = result.frame.cells.area / 1e6
    assert grown_mb < byte_a_cell_mb / 2
