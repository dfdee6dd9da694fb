"""Slides that are dropped on the window, or chosen in napari's own File menu: opened beside it.

There is no question which plugin should read them, and what is open already is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QDropEvent

from napari_metastasis._napari.compat import drop_targets, take_chosen_files
from napari_metastasis._napari.reader import may_be_slide
from napari_metastasis.slide_address import SlidePath, slide_path

if TYPE_CHECKING:
    from napari_metastasis._napari.workspace import Workspace

__all__ = ["SlideDrops"]


class SlideDrops(QObject):
    """Takes files that may be slides, and leaves all others to napari.

    Parameters
    ----------
    workspace
        Opens them. Also the Qt parent.
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._workspace = workspace
        for target in drop_targets(workspace.viewer):
            target.installEventFilter(self)
        take_chosen_files(workspace.viewer, self._take)

    def _take(self, paths: Sequence[str | SlidePath]) -> bool:
        """Open files where every one may be a slide; return whether they are."""
        taken = bool(paths) and all(may_be_slide(slide_path(path)) for path in paths)
        if taken:
            self._workspace.open(paths, or_picture=True)
        return taken

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Open what is dropped where every file may be a slide."""
        if event is None or event.type() != QEvent.Type.Drop or not isinstance(event, QDropEvent):
            return bool(super().eventFilter(watched, event))
        dropped = event.mimeData()
        urls = [] if dropped is None else dropped.urls()
        places = [slide_path(url.toLocalFile() if url.isLocalFile() else url.url()) for url in urls]
        if not self._take(places):
            return bool(super().eventFilter(watched, event))
        event.acceptProposedAction()
        return True
