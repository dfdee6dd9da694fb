"""The error of data that are no picture."""

from __future__ import annotations

__all__ = ["PictureError"]


class PictureError(ValueError):
    """Data that is no picture, or none that can be decoded; says what came."""
