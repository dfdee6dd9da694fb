"""Mitoses: pixels in, a fine map of how near a mitosis is out, from whose peaks they are read (Pearce 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any, Self

from napari_metastasis.annotations import rasterize
from napari_metastasis.errors import ModelError
from napari_metastasis.geometry import Region, chunks_over, sparse_zeros
from napari_metastasis.models import MitosisModel, Model
from napari_metastasis.scanning.looked_at import margin_cells, with_margin
from napari_metastasis.scanning.maps.kinds import MITOSES
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.passes.base import PassContext
from napari_metastasis.scanning.passes.pixels import PixelPass, PreparedPixelPass, map_before
from napari_metastasis.scanning.plan import BoolArray
from napari_metastasis.scanning.scanner import FinishedPiece
from napari_metastasis.settings import MitosisSettings, PassSettings

__all__ = ["MitosisPass"]

#: Version of the answers: to be raised when a change of this program changes one by more than rounding.
_MITOSES_VERSION = 1


class MitosisPass(PixelPass):
    """A mitosis model's pass over the slide."""

    writes = MITOSES
    STAIN_KEY = "mitosis_stain"

    @classmethod
    def of(cls, model: Model, settings: PassSettings) -> Self:
        """Return the pass of a mitosis model."""
        assert isinstance(model, MitosisModel)
        assert isinstance(settings, MitosisSettings)
        return cls(model, settings.mitosis_above)

    @property
    def decides(self) -> Mapping[str, Any]:
        """Return the model's name, weights, pixels and calibration; where it looks decides no answer."""
        spec = self.model.spec
        return {
            "mitoses_version": _MITOSES_VERSION,
            "mitosis_model": self.model.name,
            "mitosis_model_sha256": self.model.weights_sha256,
            "mitosis_model_reads": [spec.mpp, spec.cell_px, *spec.mean, *spec.std],
            "mitosis_model_calibration": spec.calibration,
        }

    def prepared(self, context: PassContext, store: MapStore, precision: str) -> PreparedPixelPass:
        """Return the pass ready to run; see :meth:`PixelPass.prepared`."""
        return _PreparedMitosisPass(self, context, store, precision)


class _PreparedMitosisPass(PreparedPixelPass):
    def __init__(self, made_by: PixelPass, context: PassContext, store: MapStore, precision: str) -> None:
        super().__init__(made_by, context, store, precision)
        frame, asked = store.frame, self.wanted.cells
        around = asked.grown(math.floor(margin_cells(frame))).intersection(Region.of(frame.cells))
        self.wanted = replace(self.wanted, cells=around)
        self._tissue, self._outlined = self.wanted.tissue, None
        if context.outlines:
            self._outlined = sparse_zeros(frame.cells.shape)
            # Piece by piece: drawing takes 25 bytes a cell.
            for _, part in chunks_over(asked, frame.cells):
                inside = part.intersection(asked)
                self._outlined[inside.slices] = rasterize(context.outlines, frame, inside)
            self._restrict(self._outlined)
        self.needed = self.wanted.showing(frame, around)

    def _restrict(self, looked_at: BoolArray) -> None:
        """Look at some cells alone, and answer for what lies around them."""
        looked_at = with_margin(looked_at, self.store.frame)
        if self._tissue is not None:
            looked_at &= self._tissue
        self.wanted = replace(self.wanted, tissue=looked_at)

    def choose_places(self, should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Leave out what the map before finds nothing in, or does not know.

        It stays without an answer: mitoses are counted for each mm² that was looked at.

        Raises
        ------
        ModelError
            If that map has no answer at all.
        """
        del should_stop
        if self.made_by.above:
            before = map_before(self.context)
            if not before.done.any():
                raise ModelError(
                    f"expected a map that says where tumour is, got {before.path.name} without an answer; scan for "
                    "metastases first, with the same model and settings, or leave --mitosis-above out"
                )
            looked_at = self.suspicious(unknown_too=False)
            if self._outlined is not None:
                looked_at &= self._outlined
            self._restrict(looked_at)
            self.needed = self.wanted.showing(self.store.frame, self.wanted.cells)
        yield from ()
