"""A slide whose red and blue are exchanged is put right everywhere, and is another slide than as it is."""

from __future__ import annotations

import pickle

import numpy as np
import tifffile

from napari_metastasis.geometry import Region
from napari_metastasis.slides import open_slide


def test_every_level_and_image_is_put_right(tmp_path):
    path = tmp_path / "bgr.tif"
    pixels = np.random.default_rng(3).integers(100, 250, (512, 768, 3)).astype(np.uint8)
    options = {
        "photometric": "rgb",
        "tile": (128, 128),
        "metadata": None,
        "resolution": (2e4, 2e4),
        "resolutionunit": 3,
    }
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels[..., ::-1], subfiletype=0, **options)
        tiff.write(pixels[::2, ::2, ::-1], subfiletype=1, **options)
    with open_slide(path, swap_red_blue=True) as swapped, open_slide(path) as as_is:
        assert swapped.swapped
        assert not as_is.swapped
        assert len(swapped.levels) == len(as_is.levels)
        np.testing.assert_array_equal(swapped.read_level(0, Region(0, 0, 768, 512)), pixels)
        for level, other in zip(swapped.levels, as_is.levels, strict=True):
            np.testing.assert_array_equal(level.array.compute(), other.array.compute()[..., ::-1])
        frame = as_is.frame(0.7)
        region = Region(13, 7, 90, 80)
        np.testing.assert_array_equal(swapped.read(frame, region), as_is.read(frame, region)[..., ::-1])
        assert swapped.fingerprint != as_is.fingerprint
        assert swapped.earlier_fingerprint != as_is.earlier_fingerprint
        with pickle.loads(pickle.dumps(swapped)) as again:
            assert again.fingerprint == swapped.fingerprint
