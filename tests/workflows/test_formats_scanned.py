"""One slide in several formats: the disc lies at the same place, and the lesions are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from czi_files import JPEG_XR, ZSTD, metadata, tiles_of, write_czi
from dicom_slides import write_slide
from disc_slide import DISC_CENTER, MPP
from scans import SCAN, scan_with

from napari_metastasis.geometry import Region
from napari_metastasis.slides import open_slide


def write_zeiss(folder: Path, levels: list[np.ndarray]) -> Path:
    tiles = [
        tile
        for number, level in enumerate(levels)
        for tile in tiles_of(
            level, 300, corner=(-70, 1300), downsample=2**number, scene=0, compression=ZSTD if number else JPEG_XR
        )
    ]
    return write_czi(folder / "node.czi", tiles, xml=metadata(tiles, mpp=MPP))


def write_dicom(folder: Path, levels: list[np.ndarray]) -> Path:
    write_slide(folder / "node", levels, mpp=MPP)
    return folder / "node"


@pytest.mark.parametrize(("write", "loss"), [(write_zeiss, 0.0), (write_dicom, 0.2)])
def test_the_same_lesions(slide, model, tmp_path, write: Callable[..., Path], loss: float) -> None:
    stored = [number for number, level in enumerate(slide.levels) if level.stored]
    levels = [slide.read_level(number, Region.of(slide.levels[number].size)) for number in stored]
    expected = scan_with(slide, model, tmp_path / "tiff", scan=SCAN)
    with open_slide(write(tmp_path, levels)) as other:
        assert (other.mpp, other.size) == (pytest.approx(slide.mpp), slide.size)
        assert [level.downsample for level in other.levels] == [level.downsample for level in slide.levels]
        result = scan_with(other, model, tmp_path / "other", scan=SCAN)
    # DICOM's tiles went through JPEG once more.
    np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=loss)
    (one,), (two,) = expected.lesions, result.lesions
    assert two.area_mm2 == pytest.approx(one.area_mm2, rel=0.01)
    assert result.frame.cell_center(0, 0) == expected.frame.cell_center(0, 0)
    weights = np.nan_to_num(result.probabilities)
    row, column = (float((weights * grid).sum() / weights.sum()) for grid in np.indices(weights.shape))
    assert result.frame.cell_center(column, row).distance(DISC_CENTER) < result.frame.cell_px / 2
