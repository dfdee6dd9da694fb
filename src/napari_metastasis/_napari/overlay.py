"""How strongly results lie over the tissue of a window's slides, and the keys that take them away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from qtpy.QtCore import QObject, Signal

from napari_metastasis._napari.compat import real_viewer, window_of

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.window_keys import WindowKeys

__all__ = ["HOLD_S", "OverlayStrength", "bind_overlay_keys"]

_NAME = "napari-metastasis-overlay-strength"
#: The tissue under the maps stays readable: that is what a pathologist judges it by.
_STRENGTH = 0.65
#: A key that is held for longer shows the bare tissue only as long.
HOLD_S = 0.3


class OverlayStrength(QObject):
    """The opacity of all maps in one window, 0 to 1: kept from slide to slide and from scan to scan. Use :meth:`of`."""

    #: The new strength.
    changed = Signal(float)

    def __init__(self, window: QObject) -> None:
        super().__init__(window)
        self.setObjectName(_NAME)
        self._value = _STRENGTH

    @classmethod
    def of(cls, viewer: Viewer) -> OverlayStrength:
        """Return that of a viewer's window, made on first use."""
        window = window_of(real_viewer(viewer))
        found = window.findChild(QObject, _NAME)
        return found if isinstance(found, OverlayStrength) else cls(window)

    @property
    def value(self) -> float:
        """Return the strength."""
        return self._value

    @value.setter
    def value(self, value: float) -> None:
        value = min(max(float(value), 0.0), 1.0)
        if value != self._value:
            self._value = value
            self.changed.emit(value)


class _Overlay(Protocol):
    @property
    def overlay_shown(self) -> bool: ...
    def show_overlay(self, shown: bool, /) -> None: ...


def bind_overlay_keys(keys: WindowKeys, overlay: Callable[[], _Overlay | None], *names: str) -> None:
    """Let keys hide what lies over the tissue: pressed shortly they hide it or show it again, held they show it after.

    Parameters
    ----------
    keys
        The window's keys.
    overlay
        Returns what to hide; ``None`` where there is nothing, and napari gets the keys.
    names
        The keys' names.
    """

    def press() -> Callable[[], None] | bool:
        over, pressed = overlay(), time.monotonic()
        if over is None:
            return False
        was_shown = over.overlay_shown
        if was_shown:
            over.show_overlay(False)

        def let_go() -> None:
            held = time.monotonic() - pressed > HOLD_S
            if held == was_shown:
                over.show_overlay(True)

        return let_go

    for name in names:
        keys.bind(name, press)
