"""Segmentation: pixels in, the probability of tumour in each pixel of a finer map out (Khalil et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Self

import numpy as np

from napari_metastasis.geometry import CHUNK_CELLS
from napari_metastasis.models import Model, Segmenter
from napari_metastasis.scanning.maps.kinds import SEGMENTED
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.passes.base import PassContext
from napari_metastasis.scanning.passes.pixels import PixelPass, PreparedPixelPass
from napari_metastasis.scanning.scanner import FinishedPiece
from napari_metastasis.settings import PassSettings, SegmentSettings

__all__ = ["SegmentPass"]

#: Version of segmented answers: to be raised when a change of this program changes one by more than rounding.
#: What 1 answered in is not known: its maps were given the scan's precision, and had their own.
_SEGMENTED_VERSION = 2


class SegmentPass(PixelPass):
    """A segmenter's pass over the slide."""

    writes = SEGMENTED
    STAIN_KEY, BEFORE_KEY = "segmented_stain", "segment_above_map"

    @classmethod
    def of(cls, model: Model, settings: PassSettings) -> Self:
        """Return the pass of a segmenter."""
        assert isinstance(model, Segmenter)
        assert isinstance(settings, SegmentSettings)
        return cls(model, settings.segment_above)

    @property
    def decides(self) -> Mapping[str, Any]:
        """Return the segmenter's name, weights, pixels and calibration, and where it looks."""
        spec = self.model.spec
        return {
            "segmented_version": _SEGMENTED_VERSION,
            "segmenter": self.model.name,
            "segmenter_sha256": self.model.weights_sha256,
            "segmenter_reads": [spec.mpp, spec.cell_px, *spec.mean, *spec.std],
            "segmenter_calibration": spec.calibration,
            "segment_above": self.above,
        }

    def prepared(self, context: PassContext, store: MapStore, precision: str) -> PreparedPixelPass:
        """Return the pass ready to run; see :meth:`PixelPass.prepared`."""
        return _PreparedSegmentPass(self, context, store, precision)


class _PreparedSegmentPass(PreparedPixelPass):
    def choose_places(self, should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Answer 0 where the map before it finds nothing to segment."""
        if not self.made_by.above:
            return
        # No cell is written twice, so that what was done before is asked for once: it is a copy of the whole map.
        suspicious, done = self.suspicious(unknown_too=True), self.store.done
        for cells in self.wanted.cells.split(CHUNK_CELLS):
            idle = self.needed[cells.slices] & ~suspicious[cells.slices] & ~done[cells.slices]
            if idle.any():
                answers = np.where(idle, np.float32(0), np.float32(np.nan))
                self.store.write(cells, answers)
                yield FinishedPiece(map=SEGMENTED.name, cells=cells, values=answers, model_px=0)
            if should_stop():
                return
