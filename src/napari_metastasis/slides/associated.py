"""Images beside a slide, label and macro: they are decoded whole, and so only while they are small."""

from __future__ import annotations

from napari_metastasis.errors import CorruptSlideError
from napari_metastasis.geometry import Size

__all__ = ["MOST_PX", "check_associated"]

#: Pixels of the largest one that is decoded: scanners write some millions, a damaged file may claim a gigapixel.
MOST_PX = 1 << 26


def check_associated(name: str, size: Size, file: str) -> None:
    """Refuse an image beside a slide that would fill the memory.

    Parameters
    ----------
    name
        Its name, such as "macro".
    size
        What it claims to be, in pixels.
    file
        The slide's file, for the message.

    Raises
    ------
    CorruptSlideError
        If it is too large.
    """
    if size.area > MOST_PX:
        raise CorruptSlideError(
            f"expected a {name} image of at most {MOST_PX:,} px in {file}, got {size.width} x {size.height} px; "
            "the slide itself can be used; look at this image with the scanner's program"
        )
