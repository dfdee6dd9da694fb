"""Remembers the pixel size that a person entered for a slide, and opens the slide with it again.

A slide is known by its content, so that a copy elsewhere is known too, and no other slide ever is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import SlideError
from napari_metastasis.memory_file import change_memory, memory_entries, memory_path, read_memory

if TYPE_CHECKING:
    from napari_metastasis.slide_address import SlidePath
    from napari_metastasis.slides import Slide

__all__ = ["PixelSizes", "default_pixel_sizes", "open_remembered"]

#: Slides that are remembered, the latest: 80 kB.
_MOST = 1000


def default_pixel_sizes() -> Path:
    """Return where this person's pixel sizes are remembered."""
    return memory_path("pixel-sizes.json")


class PixelSizes:
    """The pixel sizes that were entered, by the slides' fingerprints.

    Parameters
    ----------
    path
        JSON file; it may be absent, damaged or unwritable, and the size is then asked for again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, slide: SlidePath) -> float | None:
        """Return the µm per level-0 pixel that were entered for a slide; ``None`` where none were."""
        from napari_metastasis.slides.metadata import MAX_MPP, MIN_MPP

        entries = memory_entries(read_memory(self._path))
        # Without an entry the slide's content need not be read.
        found = entries.get(_known_as(slide) or "") if entries else None
        if isinstance(found, bool) or not isinstance(found, int | float) or not MIN_MPP <= found <= MAX_MPP:
            return None
        return float(found)

    def remember(self, slide: SlidePath, mpp: float) -> None:
        """Keep what was entered for a slide; where it cannot be written, it is asked for again."""
        key = _known_as(slide)
        if key is None:
            return

        def latest(before: Any) -> dict[str, Any]:
            others = [(other, size) for other, size in memory_entries(before).items() if other != key]
            return dict([*others, (key, mpp)][-_MOST:])

        change_memory(self._path, latest)


def _known_as(slide: SlidePath) -> str | None:
    """Return a slide's fingerprint; ``None`` where the file cannot be read, as opening it tells."""
    from napari_metastasis.slides.fingerprints import content_fingerprint

    try:
        return content_fingerprint(slide, slide)
    except (OSError, SlideError):
        return None


def open_remembered(
    path: SlidePath, mpp: float | None = None, *, entered: bool = False, swap_red_blue: bool = False
) -> Slide:
    """Open a slide with the pixel size that was entered for it before, unless another is given now.

    Parameters
    ----------
    path
        The slide.
    mpp
        Micrometres per level-0 pixel; ``None`` for those that were entered before, or that the file states.
    entered
        Whether a person entered ``mpp`` for this very slide: then it is remembered.
    swap_red_blue
        Whether the file holds red and blue in each other's place.

    Raises
    ------
    SlideError
        As :func:`~napari_metastasis.slides.open_slide` raises it.
    """
    from napari_metastasis.slides import open_slide

    sizes = PixelSizes(default_pixel_sizes())
    slide = open_slide(path, sizes.recall(path) if mpp is None else mpp, swap_red_blue=swap_red_blue)
    if entered:
        sizes.remember(path, slide.mpp)
    return slide
