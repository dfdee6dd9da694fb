"""Shows the slide as its dyes do: haematoxylin alone, eosin alone, or both as on every other slide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_metastasis.errors import StainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_layers import SlideLayers
    from napari_metastasis._napari.worker import Workers
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.slides.stains import StainMatrix, StainView

__all__ = ["VIEW_TITLES", "Stained", "StainedLayer", "stained_work"]

#: What each view is called in the window.
VIEW_TITLES: dict[StainView, str] = {"haematoxylin": "Haematoxylin", "eosin": "Eosin", "normalised": "Normalised"}
_NOT_TOLD = "Haematoxylin and eosin cannot be told apart on this slide: too little is stained, or with one dye alone."


@dataclass(frozen=True, slots=True, eq=False)
class Stained:
    """A slide as its dyes show it.

    Attributes
    ----------
    stains
        The dyes.
    view
        Which of them are seen.
    levels
        Every level of the slide, lazily but for the coarsest.
    """

    stains: StainMatrix
    view: StainView
    levels: tuple[Any, ...]


def stained_work(
    slide: Slide, tissue: TissueMask, stains: StainMatrix | None, view: StainView, _: Callable[[], bool]
) -> Stained:
    """Return a slide as its dyes show it; the dyes are looked for where they are not known.

    Raises
    ------
    StainError
        If they cannot be told apart.
    """
    from napari_metastasis.slides.stains import slide_stain_matrix, stained_levels

    try:
        found = slide_stain_matrix(slide, tissue) if stains is None else stains
    except StainError as error:
        raise error.in_window(_NOT_TOLD) from error
    *lazy, coarsest = stained_levels(slide, found, view)
    # napari reads it whole on the GUI thread, for the thumbnail.
    return Stained(found, view, (*lazy, coarsest.compute()))


class StainedLayer(QObject):
    """The layer of one slide that shows its dyes: none at first.

    The dyes are told apart beside the window, once, when they are first asked for; that needs the slide's tissue.

    Parameters
    ----------
    session
        The slide's session.
    layers
        Its layers.
    workers
        Do the work.
    parent
        Qt parent.
    """

    #: Another view was chosen, or none is shown.
    changed = Signal()

    def __init__(self, session: SlideSession, layers: SlideLayers, workers: Workers, parent: QObject) -> None:
        super().__init__(parent)
        #: What was chosen; ``None`` for the slide as it is.
        self.view: StainView | None = None
        self._session, self._layers, self._workers = session, layers, workers
        self._stains: StainMatrix | None = None
        self._shown: StainView | None = None
        self._at_work = self._done = False
        session.tissue_changed.connect(self._start)
        layers.stained_removed.connect(self._on_removed)

    def show(self, view: StainView | None) -> None:
        """Show one view, or ``None`` of them."""
        self.view = view
        if view is None:
            self._shown = None
            self._layers.show_stained(())
        self._start()
        self.changed.emit()

    def _start(self) -> None:
        """Begin what was chosen and is not shown yet, once the tissue is known."""
        session = self._session
        if self.view in (None, self._shown) or self._at_work or session.tissue is None or session.closed:
            return
        self._at_work, self._done = True, False
        work = partial(stained_work, session.slide, session.tissue, self._stains, self.view)
        self._workers.run(work, self._on_done, name="stains", urgent=True, end=self._on_end)

    def _on_done(self, stained: Any) -> None:
        self._done, self._stains = True, stained.stains
        if stained.view == self.view and not self._session.closed:
            self._shown = stained.view
            self._layers.show_stained(stained.levels, VIEW_TITLES[stained.view])

    def _on_end(self) -> None:
        self._at_work = False
        if self._done:
            # Another view may have been chosen meanwhile.
            self._start()
        elif not self._session.closed:
            # It failed, and the panel says why.
            self.show(None)

    def _on_removed(self) -> None:
        """Go back to the slide as it is, where the user took the layer away."""
        self.view = self._shown = None
        self.changed.emit()
