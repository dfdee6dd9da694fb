"""Keys that work wherever the focus is in a window, whichever layer is selected.

napari asks the selected layer for its keys before the window: an image layer would take 1 and 2 for itself. These are
taken before napari sees them, unless a layer is being edited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt

from napari_metastasis._napari.compat import canvas_widget, window_of

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtGui import QKeyEvent

__all__ = ["WindowKeys"]

#: What a layer does to the mouse while it is only looked at.
_LOOKED_AT = "pan_zoom"
_MODIFIERS = (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ShiftModifier)


def _number(key: Any) -> int:
    """Return a key's number; Qt's libraries hand out numbers or members of an enumeration."""
    return int(getattr(key, "value", key))


class WindowKeys(QObject):
    """Keys of one napari window, alone or with Shift.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        window = window_of(viewer)
        super().__init__(window)
        self._viewer = viewer
        self._bound: dict[tuple[int, bool], Callable[[], bool | None]] = {}
        for watched in (canvas_widget(viewer), window):
            watched.installEventFilter(self)

    def bind(self, key: Qt.Key, act: Callable[[], bool | None], *, shift: bool = False) -> None:
        """Let a key do something, alone or with Shift; where that returns ``False``, napari gets the key."""
        self._bound[_number(key), shift] = act

    def close(self) -> None:
        """Leave all keys to napari."""
        self._bound.clear()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Take the bound keys."""
        if event is None or event.type() != QEvent.Type.KeyPress:
            return False
        pressed: QKeyEvent = event
        modifiers = pressed.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        if modifiers not in _MODIFIERS:
            return False
        act = self._bound.get((_number(pressed.key()), modifiers == Qt.KeyboardModifier.ShiftModifier))
        if act is None or self._is_edited():
            return False
        # A key that is held switches once, not to and fro.
        return pressed.isAutoRepeat() or act() is not False

    def _is_edited(self) -> bool:
        """Return whether the selected layer takes keys for its own tools."""
        layer = self._viewer.layers.selection.active
        return layer is not None and layer.visible and str(layer.mode) != _LOOKED_AT
