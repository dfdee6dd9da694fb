"""The command line: ``napari-metastasis``."""

from __future__ import annotations

from napari_metastasis.cli.app import main

__all__ = ["main"]
