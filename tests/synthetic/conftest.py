"""One small slide that every test of the room reads."""

from __future__ import annotations

import pytest

from napari_metastasis.settings import SyntheticSettings
from napari_metastasis.synthetic import SyntheticSlide

SMALL = SyntheticSettings(
    seed=4, width_px=2700, height_px=2100, macro=0, micro=1, itc=1, fat_mm=0.1, pen_marks=1, blurred_areas=1, dust=3
)


@pytest.fixture(scope="session")
def small():
    return SyntheticSlide(SMALL)
