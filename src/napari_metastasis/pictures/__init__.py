"""Pictures and pieces of TIFF files, looked at before they are decoded.

Decoders end the process on data that they do not expect, or fill the memory with what a header claims. Here the format
is told by its first bytes, the claimed size is bounded, and no decoder is asked to guess.
"""

from __future__ import annotations

from napari_metastasis.pictures.claims import check_pages, check_piece, is_decoded, is_png_or_jpeg
from napari_metastasis.pictures.decoding import decode_picture
from napari_metastasis.pictures.error import PictureError

__all__ = ["PictureError", "check_pages", "check_piece", "decode_picture", "is_decoded", "is_png_or_jpeg"]
