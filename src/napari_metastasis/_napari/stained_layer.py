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
#: Said while they are being told apart, and where they cannot be.
_SEEKING = "Telling the stains apart…"
_NOT_TOLD = (
    "Haematoxylin and eosin cannot be told apart here: too little of the slide is stained, or with one dye alone."
)


@dataclass(frozen=True, slots=True, eq=False)
class Stained:
    """A slide as its dyes show it.

    Attributes
    ----------
    stains
        The dyes; ``None`` where they cannot be told apart.
    view
        Which of them are seen.
    levels
        Every level of the slide, lazily but for the coarsest; none where the dyes cannot be told.
    """

    stains: StainMatrix | None
    view: StainView
    levels: tuple[Any, ...] = ()


def stained_work(
    slide: Slide, tissue: TissueMask, stains: StainMatrix | None, view: StainView, _: Callable[[], bool]
) -> Stained:
    """Return a slide as its dyes show it; the dyes are looked for where they are not known."""
    from napari_metastasis.slides.stains import slide_stain_matrix, stained_levels

    try:
        found = slide_stain_matrix(slide, tissue) if stains is None else stains
    except StainError:
        return Stained(None, view)
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

    #: Another view is shown, or the note is another one.
    changed = Signal()

    def __init__(self, session: SlideSession, layers: SlideLayers, workers: Workers, parent: QObject) -> None:
        super().__init__(parent)
        #: What was chosen; ``None`` for the slide as it is.
        self.view: StainView | None = None
        #: One line for a person; empty where there is nothing to say.
        self.note = ""
        self._session, self._layers, self._workers = session, layers, workers
        self._stains: StainMatrix | None = None
        self._at_work = False
        session.tissue_changed.connect(self._start)
        layers.stained_removed.connect(self._on_removed)

    def show(self, view: StainView | None) -> None:
        """Show one view, or ``None`` of them."""
        self.view = view
        if view is None:
            self._say("")
            self._layers.show_stained(())
        else:
            self._say(_SEEKING)
            self._start()

    def _say(self, note: str) -> None:
        self.note = note
        self.changed.emit()

    def _start(self) -> None:
        """Begin what was chosen and is not shown yet, once the tissue is known."""
        session = self._session
        if self.view is None or self._at_work or session.tissue is None or session.closed or self.note != _SEEKING:
            return
        self._at_work, self._done = True, False
        work = partial(stained_work, session.slide, session.tissue, self._stains, self.view)
        self._workers.run(work, self._on_done, name="stains", urgent=True, end=self._on_end)

    def _on_done(self, stained: Any) -> None:
        self._done = True
        if self._session.closed:
            return
        self._stains = stained.stains
        if stained.stains is None:
            self.view = None
            self._layers.show_stained(())
            self._say(_NOT_TOLD)
        elif stained.view == self.view:
            self._layers.show_stained(stained.levels, VIEW_TITLES[stained.view])
            self._say("")

    def _on_end(self) -> None:
        self._at_work = False
        if self._done:
            # Another view may have been chosen meanwhile.
            self._start()
        elif self.view is not None and not self._session.closed:
            # It failed, and the panel says why.
            self.show(None)

    def _on_removed(self) -> None:
        """Go back to the slide as it is, where the user took the layer away."""
        self.view = None
        self._say("")
