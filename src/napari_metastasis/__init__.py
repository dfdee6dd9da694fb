"""Find breast-cancer metastases in whole-slide images of lymph nodes."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
