"""A network small enough to scan with in milliseconds, and slides to scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scanning_fakes import ArraySlide, tiny_model

from napari_metastasis.geometry import HeatmapFrame, Size
from napari_metastasis.models import Detector
from napari_metastasis.slides import write_pyramid


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keep measurements out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("napari_metastasis.scanning.engines.choose.default_cache_path", lambda: folder / "tuning.json")


@pytest.fixture(scope="session")
def model() -> Detector:
    return tiny_model()


@pytest.fixture(scope="session")
def tissue_picture() -> np.ndarray:
    """uint8, 700 x 900: detail at every scale on purple and pink."""
    rng = np.random.default_rng(3)
    height, width = 700, 900
    picture = np.zeros((height, width, 3))
    for cell in (3, 11, 40, 160):
        coarse = rng.normal(0, 25, (height // cell + 1, width // cell + 1, 3))
        picture += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width]
    return np.clip(picture + np.array([190, 110, 170]), 0, 255).astype(np.uint8)


@pytest.fixture
def slide(tissue_picture) -> ArraySlide:
    """Level-0 pixels that are the model's pixels."""
    return ArraySlide(tissue_picture)


@pytest.fixture
def make_frame(model) -> Callable[..., HeatmapFrame]:
    """Return the frame of a slide at a dense coefficient."""

    def make(slide: ArraySlide, dense_coefficient: int = 2) -> HeatmapFrame:
        return slide.heatmap_frame(model, dense_coefficient)

    return make


@pytest.fixture(scope="session")
def slide_file(tmp_path_factory) -> Callable[..., Path]:
    """Write a slide: lossless, so that every level is what it was made from."""
    folder = tmp_path_factory.mktemp("slides")

    def write(name: str, pixels: np.ndarray, *, mpp: float) -> Path:
        path = folder / name
        if not path.exists():
            size = Size(pixels.shape[1], pixels.shape[0])
            write_pyramid(path, pixels, mpp=mpp, size=size, tile_px=256, compression="lzw")
        return path

    return write
