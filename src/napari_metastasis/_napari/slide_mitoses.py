"""The mitoses of one slide as a window knows them: their map as it grows, the threshold, and what counts at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_metastasis.geometry import ChunkedCells, Region, chunks_over
from napari_metastasis.settings import MitosisSettings

if TYPE_CHECKING:
    from napari_metastasis.geometry import HeatmapFrame
    from napari_metastasis.lesions import Mitoses
    from napari_metastasis.scanning import AnsweredMap

__all__ = ["SlideMitoses"]


class SlideMitoses:
    """Used on the GUI thread only. Its map is held in chunks: it has many times the cells of a heatmap.

    Attributes
    ----------
    frame
        Where the map's cells lie; ``None`` where there is no map.
    model_name
        Of the model that answered in it.
    settings
        How mitoses are counted.
    threshold
        Probability from which they count.
    threshold_chosen
        Whether the user moved the threshold.
    floor
        The lowest threshold that can be shown.
    found
        The mitoses; ``None`` before they were read off the map.
    lost
        Why there is no map although mitoses were looked for: a line of the core; else empty.
    """

    #: Another map is shown, or none.
    map_changed = Signal()
    #: Answers came to the map.
    cells_written = Signal()
    threshold_changed = Signal(float)
    found_changed = Signal()

    def __init__(self) -> None:
        self.frame: HeatmapFrame | None = None
        self.model_name = ""
        self.settings = MitosisSettings()
        self.threshold = self.floor = 0.5
        self.threshold_chosen = False
        self.found: Mitoses | None = None
        self.lost = ""
        self._chunks: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
        self._own: set[tuple[int, int]] = set()

    @property
    def cells(self) -> ChunkedCells | None:
        """Return the map as it is now, whose chunks are written in place; ``None`` where there is none."""
        return None if self.frame is None else ChunkedCells(self.frame.cells, dict(self._chunks))

    @property
    def asked_threshold(self) -> float:
        """Return the threshold that a scan is to use: the user's, or 0 for the model's own."""
        return self.threshold if self.threshold_chosen else 0.0

    def show_map(self, shown: AnsweredMap, *, threshold: float, settings: MitosisSettings, model_name: str) -> None:
        """Show another map.

        Parameters
        ----------
        shown
            The map.
        threshold
            Probability from which mitoses count in it.
        settings
            How they are counted.
        model_name
            Of the model that answers in it.
        """
        if (self.frame, self.model_name) != (shown.frame, model_name):
            # What another model found is not this one's, and the threshold that was chosen for it means nothing.
            self.threshold_chosen = False
            self.show_found(None, floor=settings.floor(threshold))
        self.frame, self.settings, self.model_name, self.lost = shown.frame, settings, model_name, ""
        # Copied once they are written: on a large slide they are gigabytes.
        self._chunks, self._own = dict(shown.cells.chunks), set()
        self._move(threshold)
        self.map_changed.emit()

    def show_none(self, lost: str = "") -> None:
        """Show no map, and why it cannot be read where there is one."""
        self.lost = lost
        self.frame, self._chunks, self.model_name, self.threshold_chosen = None, {}, "", False
        self.show_found(None, floor=self.floor)
        self.map_changed.emit()

    def write_cells(self, parts: Sequence[tuple[Region, npt.NDArray[np.float32]]]) -> None:
        """Take finished parts into the map; NaN is no new answer."""
        if self.frame is None or not parts:
            return
        for cells, values in parts:
            for key, whole in chunks_over(cells, self.frame.cells):
                part = cells.intersection(whole)
                fresh = values[part.shifted(-cells.x, -cells.y).slices]
                answered = ~np.isnan(fresh)
                if answered.any():
                    if key not in self._own:
                        before = self._chunks.get(key)
                        fill = np.full(whole.size.shape, np.nan, np.float32) if before is None else before.copy()
                        self._chunks[key] = fill
                        self._own.add(key)
                    held = self._chunks[key]
                    np.copyto(held[part.shifted(-whole.x, -whole.y).slices], fresh, where=answered)
        self.cells_written.emit()

    def set_threshold(self, threshold: float) -> None:
        """Move the threshold, as a person does."""
        if self.frame is not None:
            self.threshold_chosen = True
            self._move(min(max(threshold, self.floor), 1.0))

    def _move(self, threshold: float) -> None:
        if threshold != self.threshold:
            self.threshold = threshold
            self.threshold_changed.emit(threshold)

    def show_found(self, found: Mitoses | None, *, floor: float) -> None:
        """Show what counts at the threshold.

        Parameters
        ----------
        found
            The mitoses; ``None`` where nothing is known of them.
        floor
            The lowest threshold that can be shown.
        """
        self.floor = floor
        if found is not self.found:
            self.found = found
            self.found_changed.emit()
