"""Findings in a window without a scan: a map whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_metastasis.geometry import HeatmapFrame, Point
from napari_metastasis.scanning import PROBABILITY, MapValues

__all__ = ["answer"]


def answer(window: Any, blobs: Sequence[tuple[float, float, float, float]]) -> None:
    """Let the slide that is shown have been scanned, and wait for what was found.

    Parameters
    ----------
    window
        As the fixture ``house`` makes it.
    blobs
        Discs of tumour: x, y and radius in level-0 pixels, and the probability.
    """
    session = window.session
    slide = session.slide
    frame = HeatmapFrame(model=slide.frame(0.972), patch_px=96, stride_px=8)
    heat = np.full(frame.cells.shape, 0.02, np.float32)
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]]
    for x, y, radius, probability in blobs:
        cell = frame.cell_at(Point(x, y))
        heat[np.hypot(rows - cell.y, columns - cell.x) <= radius / frame.cell_px] = probability
    window.until(lambda: not session.looking)
    session.show_maps([MapValues(PROBABILITY, frame, heat)], model_name="chosen", folder=None)
    window.controller._lesions.start()
    window.until(lambda: session.found is not None and len(session.found.rows) == len(blobs))
    window.until(lambda: session.reviewed is not None and not window.controller.looking_for_lesions)
