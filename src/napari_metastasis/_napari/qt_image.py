"""Pixels as pictures of Qt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtGui import QImage

__all__ = ["image_of"]


def image_of(pixels: npt.NDArray[np.uint8]) -> QImage:
    """Return pixels, (rows, columns, 3 or 4) uint8, as an image of Qt's that owns them."""
    rows, columns, channels = pixels.shape
    kind = QImage.Format.Format_RGB888 if channels == 3 else QImage.Format.Format_RGBA8888
    data = np.ascontiguousarray(pixels)
    return QImage(data.data, columns, rows, channels * columns, kind).copy()
