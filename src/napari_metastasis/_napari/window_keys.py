"""Keys that work wherever the focus is in a window, whichever layer is selected.

Qt gives a key to the widget that has the focus, and lists, tables and sliders take letters and digits for themselves;
napari asks the selected layer before the window. These keys are taken before either sees them. A field keeps what is
typed into it, and a layer that is being edited the keys of its tools.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDockWidget,
    QLineEdit,
    QMenuBar,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

from napari_metastasis._napari.compat import window_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

__all__ = ["WindowKeys"]

#: What a layer does to the mouse while it is only looked at.
_LOOKED_AT = "pan_zoom"
#: Part of how a key is reached on some keyboards, and nothing that a person means by it.
_NOT_MEANT = Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.GroupSwitchModifier
_MODIFIERS = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.ControlModifier,
    Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier,
)
#: The menu bar has the focus while its entries are chosen by their letters.
_TYPED_INTO = (QLineEdit, QAbstractSpinBox, QTextEdit, QPlainTextEdit, QMenuBar)

#: See :meth:`WindowKeys.bind`.
Act = Callable[[], Callable[[], None] | bool | None]


class WindowKeys(QObject):
    """Keys of one napari window, alone or with Shift and Ctrl.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        window = window_of(viewer)
        super().__init__(window)
        self._viewer = viewer
        #: By key and what is held with it: napari's name of both, and what to do.
        self._bound: dict[tuple[int, int], tuple[Any, list[Act]]] = {}
        #: The keys that are down and were taken, with what follows once they are let go.
        self._down: dict[int, Callable[[], None] | None] = {}
        application = QApplication.instance()
        assert application is not None
        self._application = application
        # Nothing less sees a key before the widget that has the focus, whichever comes to be made.
        application.installEventFilter(self)

    def bind(self, key: str, act: Act) -> None:
        """Let a key do something.

        Parameters
        ----------
        key
            Its name, after "Ctrl-" and "Shift-" where it is pressed with these.
        act
            Called when the key is pressed, and once while it is held. Returns ``False`` where the key is not for it:
            whatever was bound to the key later is asked, and at last the widget that has the focus. May return what is
            to be done once the key is let go.
        """
        name = key.replace("-", "+")
        combination = QKeySequence(name)[0]
        held = _number(combination.keyboardModifiers())
        self._bound.setdefault((_number(combination.key()), held), (coerce_keybinding(name), []))[1].append(act)

    def close(self) -> None:
        """Leave all keys to napari."""
        self._application.removeEventFilter(self)
        self._bound.clear()
        self._down.clear()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Take the bound keys from whatever widget of the window has the focus."""
        # Every event of the application comes by here.
        if not isinstance(event, QKeyEvent) or not isinstance(watched, QWidget) or not self._is_ours(watched):
            return False
        if event.type() == QEvent.Type.KeyPress:
            return self._on_press(watched, event)
        return event.type() == QEvent.Type.KeyRelease and self._on_release(event)

    def _on_press(self, receiver: QWidget, event: QKeyEvent) -> bool:
        key = _number(event.key())
        if event.isAutoRepeat():
            # A key that is held switches once, not to and fro.
            return key in self._down
        self._down.pop(key, None)
        modifiers = event.modifiers() & ~_NOT_MEANT
        if modifiers not in _MODIFIERS:
            return False
        bound = self._bound.get((key, _number(modifiers)))
        if bound is None or _is_typed_into(receiver) or _something_is_open():
            return False
        binding, acts = bound
        if _is_edited_by(self._viewer.layers.selection.active, binding):
            return False
        for act in acts:
            answer = act()
            if answer is not False:
                self._down[key] = answer if callable(answer) else None
                return True
        return False

    def _on_release(self, event: QKeyEvent) -> bool:
        """Take the release of what was taken: napari would end what it never began."""
        key = _number(event.key())
        if key not in self._down:
            return False
        if not event.isAutoRepeat():
            let_go = self._down.pop(key)
            if let_go is not None:
                let_go()
        return True

    def _is_ours(self, widget: QWidget) -> bool:
        """Return whether a widget lies in this window, or in a part of it that was taken out of its frame."""
        window = widget.window()
        if isinstance(window, QDockWidget) and window.parentWidget() is not None:
            window = window.parentWidget().window()
        return window is self.parent()


def _number(key: Any) -> int:
    """Return a key's number; Qt's libraries hand out numbers or members of an enumeration."""
    return int(getattr(key, "value", key))


def _is_typed_into(widget: QWidget) -> bool:
    return isinstance(widget, _TYPED_INTO) or (isinstance(widget, QComboBox) and widget.isEditable())


def _something_is_open() -> bool:
    """Return whether a menu or a dialog waits for an answer."""
    return QApplication.activePopupWidget() is not None or QApplication.activeModalWidget() is not None


def _is_edited_by(layer: Layer | None, key: Any) -> bool:
    """Return whether a layer is being edited, and takes the key for its own tools."""
    if layer is None or not layer.visible or str(layer.mode) == _LOOKED_AT:
        return False
    keymaps = (layer.keymap, *(getattr(base, "class_keymap", {}) for base in type(layer).__mro__))
    return any(key in keymap for keymap in keymaps)
