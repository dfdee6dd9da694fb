"""Slides that are dropped on the window: opened beside it, without a question which plugin should read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QDropEvent

from napari_metastasis._napari.compat import drop_targets
from napari_metastasis._napari.reader import may_be_slide

if TYPE_CHECKING:
    from napari_metastasis._napari.workspace import Workspace

__all__ = ["SlideDrops"]


class SlideDrops(QObject):
    """Takes drops that may be slides, and leaves all others to napari.

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

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Open what is dropped where every file may be a slide."""
        if event is None or event.type() != QEvent.Type.Drop or not isinstance(event, QDropEvent):
            return bool(super().eventFilter(watched, event))
        dropped = event.mimeData()
        urls = [] if dropped is None else dropped.urls()
        paths = [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
        if not paths or len(paths) < len(urls) or not all(map(may_be_slide, paths)):
            return bool(super().eventFilter(watched, event))
        event.acceptProposedAction()
        self._workspace.open(paths, or_picture=True)
        return True
