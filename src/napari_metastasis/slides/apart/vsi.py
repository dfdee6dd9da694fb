"""Olympus VSI, read with slideio in a process of its own: in several threads, the library mixes up their tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import slideio

__all__ = ["SlideioFile", "open_file"]

UInt8Array = npt.NDArray[np.uint8]

#: Images beside the slide, as they are called there and everywhere else.
_ASSOCIATED = {"label": "label", "macro": "macro", "overview": "macro", "thumbnail": "thumbnail"}


def open_file(path: str, cache_bytes: int) -> SlideioFile:
    """Open a file; the library keeps no tiles."""
    del cache_bytes
    slideio.set_log_level("ERROR")
    return SlideioFile(path, "VSI")


class SlideioFile:
    """The largest image in colour of an open file.

    Parameters
    ----------
    path
        To open.
    driver
        That opens it, by its name in the library.
    """

    def __init__(self, path: str, driver: str) -> None:
        self._slide = slideio.open_slide(path, driver)
        scenes = [self._slide.get_scene(number) for number in range(self._slide.num_scenes)]
        self._images = [(scene.size, _kind(scene)) for scene in scenes]
        colour = [scene for scene, (_, kind) in zip(scenes, self._images, strict=True) if kind == "3 uint8"]
        self._scene = max(colour or scenes, key=lambda scene: scene.size[0] * scene.size[1])
        planes = self._scene.num_z_slices
        self._slices = planes // 2, planes // 2 + 1
        self._beside = {
            _ASSOCIATED[name.lower()]: name for name in self._slide.get_aux_image_names() if name.lower() in _ASSOCIATED
        }

    def facts(self) -> dict[str, Any]:
        """Return what the file states."""
        scene = self._scene
        levels = [scene.get_zoom_level_info(number) for number in range(scene.num_zoom_levels)]
        return {
            "levels": [
                [level.size.width, level.size.height, level.tile_size.width, level.tile_size.height] for level in levels
            ]
            or [[*scene.size, 0, 0]],
            "images": [[*size, kind] for size, kind in self._images],
            "chosen": [*scene.size, _kind(scene)],
            "planes": scene.num_z_slices,
            "frames": scene.num_t_frames,
            "metres": list(scene.resolution),
            "magnification": scene.magnification,
            "associated": list(self._beside),
        }

    def read(self, level: int, x: int, y: int, width: int, height: int) -> UInt8Array:
        """Return pixels of a level, uint8 of shape (rows, columns, 3)."""
        block = self._scene.read_block_from_level(level, (x, y, width, height), slices=self._slices)
        return np.ascontiguousarray(block.reshape(height, width, 3))

    def associated(self, name: str, most_px: int) -> UInt8Array | tuple[int, int]:
        """Return an image beside the slide, or its width and height where it has too many pixels."""
        width, height = self._slide.get_aux_image(self._beside[name]).size
        if width * height > most_px:
            return width, height
        return np.ascontiguousarray(self._slide.get_aux_image_raster(self._beside[name]))


def _kind(scene: Any) -> str:
    """Return how many channels of which depth a scene has."""
    return f"{scene.num_channels} {scene.get_channel_data_type(0)}"
