"""Segmentation: pixels in, the probability of tumour in each pixel of a finer map out (Khalil et al. 2022).

The scanner reads it as it reads the slide for a detector: pieces overlap by what the network needs, so that the map has
no seams, and its squares lie on a lattice anchored at the map's first cell.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Self

import numpy as np
from scipy import ndimage

from napari_metastasis.errors import DeviceError, ScanCancelledError
from napari_metastasis.geometry import CHUNK_CELLS, HeatmapFrame, Region, any_of_blocks, cells_beneath, sparse_zeros
from napari_metastasis.models import Model, Segmenter
from napari_metastasis.models.inputs import input_of
from napari_metastasis.scanning.engines.choose import choose_engine, settle_precision
from napari_metastasis.scanning.maps.kinds import PROBABILITY, SEGMENTED
from napari_metastasis.scanning.maps.ome_zarr import digest
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.passes.base import Pass, PassContext
from napari_metastasis.scanning.plan import BoolArray, ScanPlan, Wanted, plan_scan
from napari_metastasis.scanning.scanner import DenseScan, FinishedPiece
from napari_metastasis.settings import PassSettings, ScanSettings, SegmentSettings

__all__ = ["SegmentPass"]

#: Version of segmented answers: to be raised when a change of this program changes one by more than rounding.
#: What 1 answered in is not known: its maps were given the scan's precision, and had their own.
_SEGMENTED_VERSION = 2
#: How far around a suspicious cell of the map before it is segmented, in µm: a lesion's border lies outside its
#: probable cells, and half a patch is what the detector cannot see past.
_AROUND_UM = 50.0


class SegmentPass(Pass):
    """A segmenter's pass over the slide.

    Parameters
    ----------
    segmenter
        The segmenter.
    settings
        Where it looks.
    """

    writes, reads = SEGMENTED, "pixels"

    def __init__(self, segmenter: Segmenter, settings: SegmentSettings) -> None:
        self.segmenter, self.settings = segmenter, settings

    @classmethod
    def of(cls, model: Model, settings: PassSettings) -> Self:
        """Return the pass of a segmenter."""
        assert isinstance(model, Segmenter)
        assert isinstance(settings, SegmentSettings)
        return cls(model, settings)

    @property
    def looks(self) -> Segmenter:
        """Return the segmenter."""
        return self.segmenter

    @property
    def decides(self) -> Mapping[str, Any]:
        """Return the segmenter's name, weights, pixels and calibration, and where it looks."""
        spec = self.segmenter.spec
        return {
            "segmented_version": _SEGMENTED_VERSION,
            "segmenter": self.segmenter.name,
            "segmenter_sha256": self.segmenter.weights_sha256,
            "segmenter_reads": [spec.mpp, spec.cell_px, *spec.mean, *spec.std],
            "segmenter_calibration": spec.calibration,
            "segment_above": self.settings.segment_above,
        }

    def prepare(self, context: PassContext) -> PreparedSegmentPass:
        """Return the pass ready to run; see :meth:`Pass.prepare`."""
        spec = self.segmenter.spec
        if context.settings.engine == "openvino" and self.segmenter.network.layers is None:
            raise DeviceError(
                f"expected a segmenter whose layers follow each other for engine openvino, got {spec.architecture}; "
                "choose --engine torch"
            )
        frame = HeatmapFrame(model=context.slide.frame(spec.mpp), patch_px=spec.field_px, stride_px=spec.cell_px)
        decides = dict(self.decides)
        if self.settings.segment_above:
            # Another map before it finds other places.
            decides["segment_above_map"] = digest(_map_before(context).identity)
        if context.settings.stain == "normalise":
            decides["segmented_stain"] = list(spec.stain_density)
        if found := input_of(spec, context.settings.stain).identity:
            decides["segmented_input"] = found
        precision = decides["precision"] = self._precision(context, decides)
        return PreparedSegmentPass(self, context, context.open_map(SEGMENTED, frame, decides), precision)

    def _precision(self, context: PassContext, decides: Mapping[str, Any]) -> str:
        """Return the number format of the map: the scan's need not do for another network, and none is mixed in one."""
        return settle_precision(
            self.segmenter,
            _own(context.settings),
            preferred_precision=context.stored_precision(SEGMENTED, decides),
            should_stop=context.should_stop,
        )


def _own(settings: ScanSettings) -> ScanSettings:
    """Return the settings for a segmenter: what is answered has one density, the detector's means nothing here."""
    return replace(settings, dense_coefficient=1)


def _map_before(context: PassContext) -> MapStore:
    """Return the map that says what is suspicious: the latest before the segmentation."""
    return [one for one in context.maps.values() if one.kind.is_probability][-1]


def _cells_asked(context: PassContext, frame: HeatmapFrame) -> Region:
    """Return the cells that touch the region, and those beneath the scan's own: no fewer, or none are read there."""
    if context.region is None:
        return Region.of(frame.cells)
    coarse = context.cells_of(PROBABILITY.name, context.frame)
    rows, columns = cells_beneath(frame, context.frame)
    down = np.flatnonzero((rows >= coarse.y) & (rows < coarse.bottom))
    across = np.flatnonzero((columns >= coarse.x) & (columns < coarse.right))
    own = frame.cells_over(context.region)
    x, y = min(own.x, int(across[0])), min(own.y, int(down[0]))
    return Region(x, y, max(own.right, int(across[-1]) + 1) - x, max(own.bottom, int(down[-1]) + 1) - y)


class PreparedSegmentPass:
    """A segmenter's pass, ready to run.

    Parameters
    ----------
    made_by
        The pass.
    context
        The scan that it belongs to.
    store
        The map, opened for writing.
    precision
        Number format that it is answered in.
    """

    def __init__(self, made_by: SegmentPass, context: PassContext, store: MapStore, precision: str) -> None:
        self.store, self._precision = store, precision
        self._pass, self._context = made_by, context
        self._wanted = Wanted(
            cells=_cells_asked(context, store.frame),
            tissue=None if context.tissue is None else context.tissue_over(store.frame),
            done=store.done,
            focus=context.focus,
        )
        self._needed = self._wanted.showing(store.frame, self._wanted.cells)

    @property
    def model_px(self) -> int:
        """Return the work that is left, at most."""
        left = np.count_nonzero(self._needed & ~self.store.done)
        return int(left) * self.store.frame.stride_px**2

    @property
    def finished(self) -> bool:
        """Return whether all that was asked for is answered."""
        return bool(self.store.done[self._needed].all())

    def run(self, pieces: Generator[FinishedPiece], should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Yield the pieces of the passes before, then those of the segmentation.

        Raises
        ------
        CorruptSlideError
            If a part of the slide cannot be read.
        DeviceError
            If the device does not take the network, or fails.
        StorageError
            If an answer cannot be stored.
        """
        with closing(pieces):
            yield from pieces
        left = self.model_px
        if not left or should_stop():
            return
        yield from self._beneath_notice(should_stop)
        if not self.model_px or should_stop():
            return
        settings, segmenter = _own(self._context.settings), self._pass.segmenter
        try:
            # What the precision alone leaves open, the rest of the engine, may have to be measured.
            chosen = choose_engine(segmenter, settings, preferred_precision=self._precision, should_stop=should_stop)
        except ScanCancelledError:
            # While it was measured: what the scan found until now is written all the same.
            return
        try:
            if chosen.engine.precision != self._precision:
                raise DeviceError(
                    f"expected an engine in {self._precision} for {segmenter.name}, got one in "
                    f"{chosen.engine.precision}; choose --precision {chosen.engine.precision}"
                )
            plan = self._plan(chosen.roi_px)
            seen = self._context.seen_by(segmenter)
            scan = DenseScan(seen, chosen.engine, plan, self.store, settings, map=SEGMENTED.name)
            told = done = 0
            with closing(scan.run(should_stop)) as answered:
                for piece in answered:
                    # Pieces are counted as shares of what was said to be left before the plan was known.
                    done += piece.model_px
                    now = round(left * done / plan.model_px)
                    yield replace(piece, model_px=now - told)
                    told = now
        finally:
            chosen.engine.close()

    def close(self) -> None:
        """Close the map; a second call does nothing."""
        self.store.close()

    def _plan(self, roi_px: int) -> ScanPlan:
        """Return the pieces that are left."""
        wanted = replace(self._wanted, done=self.store.done)
        return plan_scan(self.store.frame, wanted, roi_px=roi_px, block=self._pass.segmenter.block_cells)

    def _beneath_notice(self, should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Answer 0 where the map before it finds nothing to segment."""
        floor = self._pass.settings.segment_above
        if not floor:
            return
        # No cell is written twice, so that what was done before is asked for once: it is a copy of the whole map.
        suspicious, done = self._suspicious(floor), self.store.done
        for cells in self._wanted.cells.split(CHUNK_CELLS):
            idle = self._needed[cells.slices] & ~suspicious[cells.slices] & ~done[cells.slices]
            if idle.any():
                answers = np.where(idle, np.float32(0), np.float32(np.nan))
                self.store.write(cells, answers)
                yield FinishedPiece(map=SEGMENTED.name, cells=cells, values=answers, model_px=0)
            if should_stop():
                return

    def _suspicious(self, floor: float) -> BoolArray:
        """Return which cells lie in or near a cell of the map before it that is at least so probable.

        So do cells of tissue that it has no answer for: nobody knows of them.
        """
        before, context = _map_before(self._context), self._context
        coarse = before.frame
        tissue = None if context.tissue is None else any_of_blocks(context.tissue, context.frame.block_in(coarse))
        probable = sparse_zeros(coarse.cells.shape)
        for part in Region.of(coarse.cells).split(CHUNK_CELLS):
            values = before.read(part)
            unknown = np.isnan(values) if tissue is None else np.isnan(values) & tissue[part.slices]
            np.copyto(probable[part.slices], True, where=(values >= floor) | unknown)
        reach = max(1, round(_AROUND_UM / coarse.cell_um))
        probable = ndimage.maximum_filter(probable, size=2 * reach + 1, mode="constant")
        rows, columns = cells_beneath(self.store.frame, coarse)
        found: BoolArray = probable[rows[:, None], columns]
        return found
