"""Images beside a slide that claim to be enormous are refused before anything is decoded."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import tifffile

from napari_metastasis.errors import CorruptSlideError
from napari_metastasis.slides import associated, open_slide


@pytest.fixture
def slide_with_macro(tmp_path):
    """A slide with a label, and with a macro image of 1.2 gigapixels in a small file."""
    rng = np.random.default_rng(2)
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        plain = {"photometric": "rgb", "metadata": None}
        pixels = rng.integers(120, 250, (700, 900, 3), np.uint8)
        tiff.write(pixels, tile=(256, 256), resolution=(20000, 20000), resolutionunit="CENTIMETER", **plain)
        tiff.write(pixels[:90, :80], description="Scanner\nlabel 80x90", subfiletype=1, **plain)
        black = zlib.compress(bytes(2048 * 2048 * 3))
        tiff.write(
            iter([black] * (20 * 15)), shape=(15 * 2048, 20 * 2048, 3), dtype="uint8", tile=(2048, 2048),
            compression="zlib", description="Scanner\nmacro 40960x30720", subfiletype=9, **plain,
        )  # fmt: skip
    return path


def test_an_enormous_macro_is_refused_and_the_slide_is_not(slide_with_macro):
    with open_slide(slide_with_macro) as slide:
        assert slide.size.width == 900
        # To ask whether it is there decodes nothing.
        assert "macro" in slide.associated_images
        assert "map" not in slide.associated_images
        assert slide.associated_images["label"].shape == (90, 80, 3)
        with pytest.raises(CorruptSlideError, match=r"expected a macro image of at most .* got 40960 x 30720 px"):
            slide.associated_images["macro"]


@pytest.mark.shared
def test_both_readers_refuse_alike(shared_data, monkeypatch):
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    for backend in ("tifffile", "openslide"):
        with open_slide(path, backend=backend) as slide:
            assert slide.associated_images["macro"].shape == (431, 1280, 3)
            with monkeypatch.context() as patch:
                patch.setattr(associated, "MOST_PX", 431 * 1280 - 1)
                with pytest.raises(CorruptSlideError, match="got 1280 x 431 px"):
                    slide.associated_images["macro"]
                assert slide.associated_images["label"].ndim == 3
