"""Small slides of every kind, drawn once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from drawn import draw_picture

from napari_metastasis.geometry import Size
from napari_metastasis.slides import write_pyramid

SIZE = Size(1501, 1103)
MPP = 0.243


@pytest.fixture(scope="session")
def picture() -> npt.NDArray[np.uint8]:
    return draw_picture(SIZE)


@pytest.fixture(scope="session")
def make_slide(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a slide and return its path; by default lossless, with every level."""
    folder = tmp_path_factory.mktemp("slides")

    def make(name: str, pixels: npt.NDArray[np.uint8], **options) -> Path:
        path = folder / name
        options = {"mpp": MPP, "tile_px": 128, "compression": "deflate"} | options
        write_pyramid(path, pixels, size=Size(pixels.shape[1], pixels.shape[0]), **options)
        return path

    return make


@pytest.fixture(scope="session")
def pyramid(make_slide: Callable[..., Path], picture: npt.NDArray[np.uint8]) -> Path:
    return make_slide("pyramid.tif", picture)


@pytest.fixture(scope="session")
def single_level(make_slide: Callable[..., Path], picture: npt.NDArray[np.uint8]) -> Path:
    return make_slide("single.tif", picture, levels=1)
