"""Passes that look at the slide's pixels themselves: a network in, a finer map of its answers out.

The scanner reads for them as it reads the slide for a detector: pieces overlap by what the network needs, so that the
map has no seams, and its squares lie on a lattice anchored at the map's first cell.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from napari_metastasis.errors import DeviceError, ScanCancelledError
from napari_metastasis.geometry import CHUNK_CELLS, HeatmapFrame, Region, any_of_blocks, cells_beneath, sparse_zeros
from napari_metastasis.models import Segmenter, input_of
from napari_metastasis.scanning.engines.choose import choose_engine, settle_precision
from napari_metastasis.scanning.maps.kinds import PROBABILITY
from napari_metastasis.scanning.maps.ome_zarr import digest
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.passes.base import PIXELS, Pass, PassContext
from napari_metastasis.scanning.plan import BoolArray, ScanPlan, Wanted
from napari_metastasis.scanning.scanner import DenseScan, FinishedPiece
from napari_metastasis.scanning.slide_parts import plan_part
from napari_metastasis.settings import ScanSettings

__all__ = ["PixelPass", "PreparedPixelPass", "map_before"]

#: How far around a suspicious cell of the map before it a pass looks, in µm: a lesion's border lies outside its
#: probable cells, and half a patch is what the detector cannot see past.
_AROUND_UM = 50.0


class PixelPass(Pass):
    """A pass whose network looks at pixels.

    Parameters
    ----------
    model
        The network with its contract.
    above
        Probability, in the map before, from which it looks at a place; 0 looks at all tissue.
    """

    reads = PIXELS
    #: What a changed stain, and the map that says what is suspicious, are called in the identity of its map. The latter
    #: is empty where that map decides no answer, but only where there is one.
    STAIN_KEY: ClassVar[str]
    BEFORE_KEY: ClassVar[str] = ""

    def __init__(self, model: Segmenter, above: float) -> None:
        self.model, self.above = model, above

    @property
    def looks(self) -> Segmenter:
        """Return its model."""
        return self.model

    @property
    def is_divisible(self) -> bool:
        """Return whether it looks at all tissue, whatever the map before says."""
        return not self.above

    @abstractmethod
    def prepared(self, context: PassContext, store: MapStore, precision: str) -> PreparedPixelPass:
        """Return the pass ready to run, for :meth:`prepare`.

        Parameters
        ----------
        context
            The scan that it belongs to.
        store
            The map, opened for writing.
        precision
            Number format that it is answered in.
        """

    def prepare(self, context: PassContext) -> PreparedPixelPass:
        """Return the pass ready to run; see :meth:`Pass.prepare`."""
        spec = self.model.spec
        if context.settings.engine == "openvino" and self.model.network.layers is None:
            raise DeviceError(
                f"expected a {spec.noun} whose layers follow each other for engine openvino, got {spec.architecture}; "
                "choose --engine torch"
            )
        frame = HeatmapFrame(model=context.slide.frame(spec.mpp), patch_px=spec.field_px, stride_px=spec.cell_px)
        decides = dict(self.decides)
        if self.above and self.BEFORE_KEY:
            # Another map before it finds other places.
            decides[self.BEFORE_KEY] = digest(map_before(context).identity)
        if context.settings.stain == "normalise":
            decides[self.STAIN_KEY] = list(spec.stain_density)
        if found := input_of(spec, context.settings.stain).identity:
            # Not "input", which is the detector's in the identity of every map.
            decides["pass_input"] = found
        precision = decides["precision"] = self._precision(context, decides)
        return self.prepared(context, context.open_map(self.writes, frame, decides), precision)

    def _precision(self, context: PassContext, decides: Mapping[str, Any]) -> str:
        """Return the number format of the map: the scan's need not do for another network, and none is mixed in one."""
        return settle_precision(
            self.model,
            _own(context.settings),
            preferred_precision=context.stored_precision(self.writes, decides),
            should_stop=context.should_stop,
        )


def _own(settings: ScanSettings) -> ScanSettings:
    """Return the settings for its model: what is answered has one density, the detector's means nothing here."""
    return replace(settings, dense_coefficient=1)


def map_before(context: PassContext) -> MapStore:
    """Return the map that says what is suspicious: the latest before the pass."""
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


class PreparedPixelPass:
    """A pass whose network looks at pixels, ready to run.

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

    def __init__(self, made_by: PixelPass, context: PassContext, store: MapStore, precision: str) -> None:
        self.store, self._precision = store, precision
        self.made_by, self.context = made_by, context
        self.wanted = Wanted(
            cells=_cells_asked(context, store.frame),
            tissue=None if context.tissue is None else context.tissue_over(store.frame),
            done=store.done,
            focus=context.focus,
        )
        self.needed = self.wanted.showing(store.frame, self.wanted.cells)

    @property
    def model_px(self) -> int:
        """Return the work that is left, at most."""
        left = np.count_nonzero(self.needed & ~self.store.done)
        parts = 1 if self.context.part is None else self.context.part.of
        return int(left) * self.store.frame.stride_px**2 // parts

    @property
    def finished(self) -> bool:
        """Return whether all that was asked for is answered."""
        return bool(self.store.done[self.needed].all())

    def run(self, pieces: Generator[FinishedPiece], should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Yield the pieces of the passes before, then its own.

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
        yield from self.choose_places(should_stop)
        if not self.model_px or should_stop():
            return
        settings, model = _own(self.context.settings), self.made_by.model
        try:
            # What the precision alone leaves open, the rest of the engine, may have to be measured.
            chosen = choose_engine(model, settings, preferred_precision=self._precision, should_stop=should_stop)
        except ScanCancelledError:
            # While it was measured: what the scan found until now is written all the same.
            return
        try:
            if chosen.engine.precision != self._precision:
                raise DeviceError(
                    f"expected an engine in {self._precision} for {model.name}, got one in "
                    f"{chosen.engine.precision}; choose --precision {chosen.engine.precision}"
                )
            plan = self._plan(chosen.roi_px)
            if not plan.rois:
                return
            seen = self.context.seen_by(model)
            scan = DenseScan(seen, chosen.engine, plan, self.store, settings, map=self.made_by.writes.name)
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
        left, part = replace(self.wanted, done=self.store.done), self.context.part
        return plan_part(self.store.frame, left, part, roi_px=roi_px, block=self.made_by.model.block_cells)

    def choose_places(self, should_stop: Callable[[], bool]) -> Generator[FinishedPiece]:
        """Settle where the network looks, once the maps before are there; yield what is answered without it."""
        del should_stop
        yield from ()

    def suspicious(self, *, unknown_too: bool) -> BoolArray:
        """Return which cells lie in or near a cell of the map before that is probable enough to be looked at.

        Parameters
        ----------
        unknown_too
            Whether so do cells of tissue that it has no answer for: nobody knows of them.
        """
        before, context = map_before(self.context), self.context
        coarse = before.frame
        if context.tissue is None:
            tissue = None
        elif before.kind.stands_alone:
            tissue = context.tissue_over(coarse)
        else:
            tissue = any_of_blocks(context.tissue, context.frame.block_in(coarse))
        probable = sparse_zeros(coarse.cells.shape)
        for part in Region.of(coarse.cells).split(CHUNK_CELLS):
            values = before.read(part)
            unknown = np.isnan(values) if tissue is None else np.isnan(values) & tissue[part.slices]
            wanted = values >= self.made_by.above
            np.copyto(probable[part.slices], True, where=wanted | unknown if unknown_too else wanted)
        reach = max(1, round(_AROUND_UM / coarse.cell_um))
        probable = ndimage.maximum_filter(probable, size=2 * reach + 1, mode="constant")
        rows, columns = cells_beneath(self.store.frame, coarse)
        found: BoolArray = probable[rows[:, None], columns]
        return found
