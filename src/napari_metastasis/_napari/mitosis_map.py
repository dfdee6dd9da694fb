"""The layer of a slide's map of mitoses: hidden at first, and never held as a whole, which may be gigabytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.colors import map_colormap, shown_limits
from napari_metastasis._napari.layers import place
from napari_metastasis._napari.worker import OneWorker
from napari_metastasis.geometry import ChunkedCells, Region

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_layers import SlideLayers
    from napari_metastasis._napari.worker import Worker
    from napari_metastasis.geometry import HeatmapFrame

__all__ = ["COLORS", "MitosisMap"]

#: Of its kind of map in the window: tumour has others.
COLORS = "mitoses"
#: A level is coarse enough once it has no more cells along a side than this: napari reads the coarsest as a whole.
_COARSE = 1024


class MitosisMap(QObject):
    """Keeps the layer in step with the map of a session, as far as it is seen.

    Coarser levels are the highest of 2 x 2 cells, so that a mitosis is seen from afar; they are made beside the window
    once the layer is shown, and again when mitoses were read anew of a map with new answers.

    Parameters
    ----------
    session
        Its map of mitoses is followed.
    layers
        The slide's layers, which hold this one.
    parent
        Qt parent.
    """

    #: The layer came, or went, or is shown or hidden.
    changed = Signal()

    def __init__(self, session: SlideSession, layers: SlideLayers, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._layers = session, layers
        self._frame: HeatmapFrame | None = None
        self._taken_away = self._stale = False
        self._worker = OneWorker("mitosis-map", self)
        self._worker.ended.connect(self._follow)
        state = session.mitoses
        self._slots = (
            (state.map_changed, self._on_map_changed),
            (state.cells_written, self._on_cells_written),
            (state.found_changed, self._on_found_changed),
            (layers.mitosis_map_removed, self._on_removed),
        )
        for signal, slot in self._slots:
            signal.connect(slot)

    def close(self) -> Worker | None:
        """Stop listening, and return what is at work; the layer stays."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        return self._worker.stop()

    def show(self, shown: bool) -> None:
        """Show or hide the layer; asked for again, it comes back where a person took it away."""
        self._taken_away = self._taken_away and not shown
        self._make()
        if self.layer is not None:
            self.layer.visible = shown

    @property
    def layer(self) -> Image | None:
        """Return the layer; ``None`` where there is no map, or a person took the layer away."""
        return self._layers.mitosis_map

    def _on_removed(self) -> None:
        """Stay away, where the user took the layer away, until another map is shown."""
        self._taken_away = True
        self.changed.emit()

    def _on_map_changed(self) -> None:
        frame = self._session.mitoses.frame
        if frame != self._frame:
            self._frame, self._taken_away = frame, False
            self._layers.show_mitosis_map(None)
        elif self.layer is not None and not self.layer.visible:
            # Nobody sees the map before, which would be held beside this one.
            self.layer.data = self._nothing()
        self._stale = True
        self._on_found_changed()

    def _on_cells_written(self) -> None:
        self._stale = True

    def _on_found_changed(self) -> None:
        self._make()
        self._follow()

    def _make(self) -> None:
        frame = self._frame
        if frame is None or self.layer is not None or self._taken_away or self._session.closed:
            return
        floor = self._session.mitoses.floor
        nothing = self._nothing()
        layer = Image(
            nothing,
            multiscale=isinstance(nothing, list),
            contrast_limits=shown_limits(floor),
            colormap=map_colormap(COLORS, floor, scanning=False),
            blending="translucent_no_depth",
            interpolation2d="linear",
            visible=False,
            **place(frame.um),
        )
        layer.events.visible.connect(self._follow)
        self._layers.show_mitosis_map(layer)
        self.changed.emit()

    def _nothing(self) -> Any:
        """Return data of the layer before it is seen, which take no memory."""
        assert self._frame is not None
        levels = [np.broadcast_to(np.float32(np.nan), shape) for shape in _shapes(self._frame.cells.shape)]
        return levels if len(levels) > 1 else levels[0]

    def _follow(self, _: Any = None) -> None:
        """Read the map again, where it is seen and something else than before is in it."""
        layer, state = self.layer, self._session.mitoses
        cells, frame = state.cells, self._frame
        self.changed.emit()
        if layer is None or cells is None or not (layer.visible and self._stale):
            return
        if self._worker.running or self._session.closed:
            return
        self._stale = False

        def show(levels: list[Any]) -> None:
            shown = self.layer
            if shown is not None and shown is layer and self._frame is frame and not self._session.closed:
                shown.data = levels if len(levels) > 1 else levels[0]
                shown.contrast_limits = shown_limits(state.floor)
                shown.colormap = map_colormap(COLORS, state.floor, scanning=False)

        self._worker.run(partial(_levels_work, cells), show)


def _shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (rows, columns) of each level, the finest first: whole multiples of each other, so that all lie in place.

    The finest is larger than the map where that is no multiple; nothing lies in there.
    """
    count = 0
    while max(shape) > _COARSE << count:
        count += 1
    rows, columns = (-(-side >> count) for side in shape)
    return [(rows << level, columns << level) for level in range(count, -1, -1)]


def _levels_work(cells: ChunkedCells, _: Callable[[], bool]) -> list[Any]:
    """Return the levels of a map as napari takes them: the coarsest is an array, the others hold what has answers."""
    *finer, coarsest = _shapes(cells.shape)
    levels: list[Any] = []
    for shape in finer:
        levels.append(_Level(cells, shape))
        cells = cells.max_pooled()
    return [*levels, _Level(cells, coarsest)[:, :]]


class _Level:
    """Cells as napari reads them from an array: windows alone, and NaN past the map."""

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, cells: ChunkedCells, shape: tuple[int, int]) -> None:
        self._cells, self.shape = cells, shape
        self.size = shape[0] * shape[1]

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        rows, columns = (part.indices(side) for part, side in zip(key, self.shape, strict=True))
        (y, bottom, down), (x, right, across) = rows, columns
        window = self._cells.read(Region(x, y, max(0, right - x), max(0, bottom - y)))
        return window[::down, ::across]

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[np.float32]:
        return self[:, :]
