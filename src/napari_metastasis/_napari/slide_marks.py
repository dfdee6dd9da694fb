"""What a person leaves on a slide beside its results: rulers, and where it was looked at closely.

It comes back when the slide is opened again, also by another window of another day; a slide is known by its content.
"""

from __future__ import annotations

import base64
import math
import threading
import zlib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.looked_at import LookedAt
from napari_metastasis._napari.ruler import Measured
from napari_metastasis._napari.worker import Worker
from napari_metastasis.geometry import Point
from napari_metastasis.memory_file import change_memory, memory_entries, memory_path, read_memory

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession

__all__ = ["SlideMarks", "marks_path"]

#: Slides whose marks are remembered, the latest: at most a few kB each.
_MOST = 200


def marks_path() -> Path:
    """Return where the marks of this person's slides are remembered."""
    return memory_path("marks.json")


class SlideMarks(QObject):
    """Keeps the marks of the open slides of a window, and of those that were open before.

    Parameters
    ----------
    parent
        Qt parent.
    """

    #: Marks that were remembered came to an open slide, its SlideSession: they are read beside the window.
    recalled = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._path = marks_path()
        self._lines: WeakKeyDictionary[SlideSession, list[Measured]] = WeakKeyDictionary()
        self._looked_at: WeakKeyDictionary[SlideSession, LookedAt] = WeakKeyDictionary()
        self._remembered: dict[str, Any] = {}
        self._reader = Worker(lambda _: memory_entries(read_memory(self._path)), name="marks", parent=self)
        self._reader.succeeded.connect(self._on_read)
        self._reader.start()

    def lines(self, session: SlideSession) -> list[Measured]:
        """Return the rulers of an open slide, to be changed in place."""
        self._open(session)
        return self._lines[session]

    def looked_at(self, session: SlideSession) -> LookedAt:
        """Return what of an open slide was looked at closely, to be changed in place."""
        self._open(session)
        return self._looked_at[session]

    def keep(self, session: SlideSession) -> None:
        """Remember the marks of a slide that closes."""
        lines, looked_at = self._lines.pop(session, None), self._looked_at.pop(session, None)
        if lines is None or looked_at is None:
            return
        known_as = session.slide.content_fingerprint
        entry = _entry(lines, looked_at)
        if entry == self._remembered.get(known_as, _NO_MARKS):
            return
        self._remembered[known_as] = entry
        # A disk may be slow; the program waits for it at its end.
        threading.Thread(target=partial(_remember, self._path, known_as, entry), name="keep-marks").start()

    def close(self) -> None:
        """Remember the marks of all slides: the window closes."""
        self._reader.abandon()
        for session in list(self._lines):
            self.keep(session)

    def _open(self, session: SlideSession) -> None:
        if session not in self._lines:
            self._lines[session], self._looked_at[session] = [], LookedAt(session.slide.size)
            self._recall(session)

    def _on_read(self, remembered: Mapping[str, Any]) -> None:
        # What was kept meanwhile is newer.
        self._remembered = {**remembered, **self._remembered}
        for session in list(self._lines):
            if self._recall(session):
                self.recalled.emit(session)

    def _recall(self, session: SlideSession) -> bool:
        """Add the marks that are remembered of a slide to its own; return whether there are any."""
        entry = self._remembered.get(session.slide.content_fingerprint) if self._remembered else None
        if not isinstance(entry, dict):
            return False
        looked_at = self._looked_at[session]
        self._lines[session][:0] = _lines(entry.get("lines"), mpp=session.slide.mpp)
        looked_at.mask |= _mask(entry.get("looked_at"), looked_at.mask.shape)
        return True


def _entry(lines: list[Measured], looked_at: LookedAt) -> dict[str, Any]:
    ends = [[line.start.x, line.start.y, line.end.x, line.end.y] for line in lines]
    if not looked_at.mask.any():
        return {"lines": ends, "looked_at": ""}
    packed = zlib.compress(np.packbits(looked_at.mask).tobytes(), 9)
    return {"lines": ends, "looked_at": base64.b64encode(packed).decode("ascii")}


_NO_MARKS = {"lines": [], "looked_at": ""}


def _lines(remembered: Any, *, mpp: float) -> list[Measured]:
    """Return lines that were remembered in level-0 pixels; what is none is passed over."""
    lines = []
    for ends in remembered if isinstance(remembered, list) else []:
        with suppress(TypeError, ValueError):
            x0, y0, x1, y1 = map(float, ends)
            if all(map(math.isfinite, (x0, y0, x1, y1))):
                lines.append(Measured(Point(x0, y0), Point(x1, y1), mpp))
    return lines


def _mask(remembered: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return a mask that was remembered; nothing of it where it is damaged, or of another shape."""
    size, nothing = math.prod(shape), np.zeros(shape, np.bool_)
    bytes_wanted = -(-size // 8)
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(remembered, validate=True), bytes_wanted + 1)
    except (TypeError, ValueError, zlib.error):
        return nothing
    if len(packed) != bytes_wanted:
        return nothing
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=size).astype(np.bool_).reshape(shape)


def _remember(path: Path, known_as: str, entry: dict[str, Any]) -> None:
    def latest(before: Any) -> dict[str, Any]:
        others = [(other, marks) for other, marks in memory_entries(before).items() if other != known_as]
        return dict([*others, (known_as, entry)][-_MOST:])

    change_memory(path, latest)
