"""The name of the person at this window, for what is said of slides."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.reviewer import known_reviewer, remember_reviewer
from napari_metastasis._napari.worker import ShouldStop, Workers

__all__ = ["ReviewerName"]


class ReviewerName(QObject):
    """Who reviews in one window: read and remembered beside it.

    Parameters
    ----------
    parent
        Qt parent.

    Attributes
    ----------
    name
        Empty before it is known, and where nobody is to be named.
    """

    changed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.name = ""
        self._workers = Workers(self)
        self._workers.run(_known_work, self._take, name="reviewer", urgent=True)

    def enter(self, name: str) -> None:
        """Take another name, and remember it; an empty one is that of the login."""
        self._workers.run(partial(_remember_work, name), self._take, name="reviewer", urgent=True)

    def _take(self, name: str) -> None:
        if name != self.name:
            self.name = name
            self.changed.emit(name)

    def close(self) -> None:
        """Read no more."""
        for worker in self._workers.running:
            worker.let_go()


def _known_work(_: ShouldStop) -> str:
    return known_reviewer()


def _remember_work(name: str, _: ShouldStop) -> str:
    remember_reviewer(name)
    return known_reviewer()
