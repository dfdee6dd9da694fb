"""The pixel size that was entered once is not asked for again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_metastasis._napari import pixel_memory
from napari_metastasis._napari.pixel_memory import PixelSizes, default_pixel_sizes, open_remembered
from napari_metastasis.errors import MissingPixelSizeError
from napari_metastasis.slides import open_slide


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    default_pixel_sizes().unlink(missing_ok=True)


@pytest.fixture
def make_bare(tmp_path: Path) -> Callable[..., Path]:
    """Write slides that do not state their pixel size."""

    def make(name: str, level: int = 240) -> Path:
        path = tmp_path / name
        picture = np.full((600, 700, 3), level, np.uint8)
        tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb", compression="jpeg")
        return path

    return make


def test_a_size_that_was_entered_is_known_again_of_this_slide_alone(make_bare: Callable, tmp_path: Path) -> None:
    first, other = make_bare("first.tif"), make_bare("other.tif", 235)
    with open_remembered(first, 0.243, entered=True) as slide:
        assert slide.mpp_supplied
    with open_remembered(first) as slide:
        assert slide.mpp == 0.243
        assert slide.mpp_supplied
    moved = shutil.copy(first, tmp_path / "elsewhere.tif")
    with open_remembered(moved) as slide:
        assert slide.mpp == 0.243
    with pytest.raises(MissingPixelSizeError):
        open_remembered(other)
    with pytest.raises(MissingPixelSizeError):
        open_slide(first)


def test_what_is_given_goes_before_what_is_remembered_and_only_what_is_entered_is(make_bare: Callable) -> None:
    path = make_bare("slide.tif")
    open_remembered(path, 0.5).close()
    with pytest.raises(MissingPixelSizeError):
        open_remembered(path)
    open_remembered(path, 0.25, entered=True).close()
    with open_remembered(path, 1.0) as slide:
        assert slide.mpp == 1.0
    with open_remembered(path) as slide:
        assert slide.mpp == 0.25
    open_remembered(path, 0.46, entered=True).close()
    with open_remembered(path) as slide:
        assert slide.mpp == 0.46


def test_a_size_that_corrects_the_files_own_is_remembered_too(tmp_path: Path) -> None:
    path = tmp_path / "wrong.tif"
    tifffile.imwrite(
        path, np.full((600, 700, 3), 240, np.uint8), tile=(256, 256), photometric="rgb", compression="jpeg",
        resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with open_slide(path) as slide:
        assert slide.mpp == 0.5
    open_remembered(path, 0.25, entered=True).close()
    with open_remembered(path) as slide:
        assert slide.mpp == 0.25


@pytest.mark.parametrize("content", ["", "[]", "{", '{"%s": "0.25"}', '{"%s": true}', '{"%s": 99}', '{"%s": NaN}'])
def test_a_damaged_memory_asks_again(make_bare: Callable, content: str) -> None:
    path = make_bare("slide.tif")
    with open_slide(path, 0.5) as slide:
        known_as = slide.fingerprint
    default_pixel_sizes().parent.mkdir(parents=True, exist_ok=True)
    default_pixel_sizes().write_text(content.replace("%s", known_as))
    with pytest.raises(MissingPixelSizeError):
        open_remembered(path)
    open_remembered(path, 0.25, entered=True).close()
    assert json.loads(default_pixel_sizes().read_text())[known_as] == 0.25


def test_the_latest_are_kept(make_bare: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_memory, "_MOST", 2)
    sizes = PixelSizes(tmp_path / "sizes.json")
    slides = [make_bare(f"{level}.tif", level) for level in (240, 235, 230)]
    for slide, mpp in zip((*slides[:2], slides[0], slides[2]), (0.2, 0.3, 0.4, 0.5), strict=True):
        sizes.remember(slide, mpp)
    assert [sizes.recall(slide) for slide in slides] == [0.4, None, 0.5]


def test_where_nothing_can_be_written_nothing_fails(make_bare: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sizes = PixelSizes(tmp_path / "file" / "sizes.json")
    sizes.remember(make_bare("slide.tif"), 0.25)
    assert sizes.recall(tmp_path / "missing.tif") is None


@pytest.mark.gui
def test_the_window_asks_once(window, make_bare: Callable) -> None:
    path = make_bare("slide.tif")
    window.workspace.ask_pixel_size(path)
    dialog = window.workspace._dialog
    dialog._value.setValue(0.243)
    dialog.accept()
    window.until(lambda: bool(window.workspace.controllers))
    window.viewer.layers.clear()
    window.open(path)
    assert window.session.slide.mpp == 0.243
    assert "set by you" in window.panel.slide_part.resolution.text()
    # As a drop does.
    window.viewer.layers.clear()
    (layer,) = window.viewer.open(str(path), plugin="napari-metastasis")
    assert layer.scale[0] == pytest.approx(0.243)
