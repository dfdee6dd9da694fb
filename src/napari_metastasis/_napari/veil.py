"""Marks tissue that was not scanned, so that it does not look like benign tissue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Layer
from napari.utils.colormaps import Colormap

from napari_metastasis._napari.compat import draw_now, hatch, redraw_image
from napari_metastasis._napari.layers import place
from napari_metastasis.geometry import ChunkedCells, Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.session import SlideSession

__all__ = ["STRIPE_COLOR", "Veil"]

#: Lighter than any tissue and without a hue, which the heat, the outlines and the stains have.
STRIPE_COLOR = (0.94, 0.94, 0.96, 0.62)
#: Between the stripes: darkens pale tissue and glass a little, on which light stripes would be lost.
_BETWEEN = (0.30, 0.30, 0.34, 0.22)


class Veil:
    """One layer with a hatch on every cell that holds tissue and has no answer.

    There is none before something was scanned, nor once all tissue is. Pieces that are written are redrawn in place.

    Parameters
    ----------
    viewer
        The viewer.
    session
        Its tissue and its maps are followed.
    name
        Returns the layer's name.
    add
        Puts a layer into the viewer, under the maps.
    is_wanted
        Whether a layer is seen when its slide is.

    Attributes
    ----------
    layer
        The layer; ``None`` while there is none.
    """

    def __init__(
        self,
        viewer: Viewer,
        session: SlideSession,
        *,
        name: Callable[[], str],
        add: Callable[[Layer], Layer],
        is_wanted: Callable[[Layer], bool],
    ) -> None:
        self.layer: Image | None = None
        self._viewer, self._session, self._name, self._add = viewer, session, name, add
        self._is_wanted = is_wanted
        self._shown = True
        self._taken_away = False
        self._of: tuple[object, object] = (None, None)
        self._cells: npt.NDArray[np.bool_] | None = None
        self._asked = self._left = 0
        self._slots = (
            (session.maps_replaced, self._on_replaced),
            (session.coverage_changed, self._on_replaced),
            (session.cells_written, self._on_cells_written),
        )
        for signal, slot in self._slots:
            signal.connect(slot)

    def close(self) -> None:
        """Stop listening; the layer stays."""
        for signal, slot in self._slots:
            signal.disconnect(slot)

    def show(self, shown: bool) -> None:
        """Show the layer, or hide it; one that is made later is as well."""
        self._shown, self._taken_away = shown, False
        self._follow()
        layer = self.layer
        if layer is not None:
            layer.visible = shown

    def on_removed(self, layer: Layer) -> None:
        """Stay away, where the user took the layer away, until other maps are shown."""
        if layer is self.layer:
            self.layer, self._taken_away = None, True

    def _on_replaced(self) -> None:
        """Take other tissue or another map for what is to be covered."""
        session = self._session
        tissue, shown = session.tissue_cells, session.read_map
        of = (tissue, None if shown is None else shown.values)
        if all(now is before for now, before in zip(of, self._of, strict=True)):
            return
        self._of, self._cells, self._taken_away = of, None, False
        self._remove()
        # They are counted anew, where lesions are read on other cells.
        if tissue is not None and shown is not None and tissue.shape == shown.values.shape:
            from napari_metastasis.scanning import unanswered_cells

            self._cells = unanswered_cells(tissue, ChunkedCells.of(shown.values))
            self._asked, self._left = (int(np.count_nonzero(cells)) for cells in (tissue, self._cells))
            self._follow()

    def _on_cells_written(self, name: str, parts: tuple[Region, ...]) -> None:
        shown = self._session.read_map
        if self._cells is None or shown is None or name != shown.kind.name or shown.values is not self._of[1]:
            return
        for part in parts:
            covered = self._cells[part.slices]
            before = int(np.count_nonzero(covered))
            if before:
                covered &= np.isnan(shown.values[part.slices])
                self._left -= before - int(np.count_nonzero(covered))
        self._follow()
        # Hidden, it is drawn as a whole when it is shown again.
        if self.layer is not None and self.layer.visible and not redraw_image(self._viewer, self.layer, parts):
            draw_now(self.layer)

    def _follow(self) -> None:
        """Have a layer where some of the tissue was scanned, and some not."""
        wanted = self._cells is not None and 0 < self._left < self._asked and not self._taken_away
        if wanted and self.layer is None:
            self._make()
        elif not wanted:
            self._remove()

    def _make(self) -> None:
        shown = self._session.read_map
        assert self._cells is not None
        assert shown is not None
        layer = Image(
            self._cells.view(np.uint8),
            name=self._name(),
            contrast_limits=(0, 1),
            colormap=Colormap(np.array([(*STRIPE_COLOR[:3], 0), STRIPE_COLOR], np.float32), name="not scanned"),
            blending="translucent_no_depth",
            interpolation2d="nearest",
            visible=self._shown,
            **place(shown.frame.um),
        )
        self.layer = layer
        self._add(layer)
        hatch(self._viewer, layer, between=_BETWEEN)

    def _remove(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None:
            self._shown = self._is_wanted(layer)
            self._viewer.layers.remove(layer)
