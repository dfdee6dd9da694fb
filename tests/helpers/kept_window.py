"""Napari windows that tests use one after another: what each did to one is taken back, and the window then looked over.

A napari window takes a second of a processor to be made and to be gone again, and most tests want a fresh one. A kept
window is as good as fresh where nothing of it differs from what it was when it was made; any other is closed.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import numpy as np
from napari import Viewer
from napari._qt.qt_main_window import _QtMainWindow
from napari._qt.qt_viewer import QtViewer
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QEvent, QObject
from qtpy.QtGui import QAction, QTextFrame
from qtpy.QtWidgets import QDialog, QDockWidget, QGraphicsEffect, QLabel, QMenu, QToolBar, QWidget

#: What hears of an event, in the words of napari, vispy and psygnal.
_CALLBACKS = ("_callbacks", "_callback_refs", "_callback_pass_event", "_slots")
_MOUSE = ("mouse_move_callbacks", "mouse_wheel_callbacks", "mouse_drag_callbacks", "mouse_double_click_callbacks")

#: How napari makes a button paler, and how Qt keeps a text: both are made once they are wanted.
_MADE_ON_DEMAND = (QGraphicsEffect, QTextFrame)
#: What a viewer says of the place that the mouse is at, whoever moved it there.
_OF_THE_MOUSE = ("status", "mouse_over_canvas")
#: What is put into a window under the names of Qt and napari.
_PUT_INTO = (QAction, QDialog, QDockWidget, QMenu, QToolBar)

#: What is not as it was: before, and now.
Differences = dict[str, tuple[Any, Any]]


class KeptWindow:
    """A window as it was when it was made.

    Parameters
    ----------
    viewer
        Its viewer, just made.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self._window, self._qt_viewer = viewer.window._qt_window, viewer.window._qt_viewer
        let_events_come()
        self._size, self._place, self._docks = self._window.size(), self._window.pos(), self._window.saveState()
        # Held, so that each stays the one object that stands for it.
        self._objects = {id(each): each for each in (self._window, *self._window.findChildren(QObject))}
        self._callbacks = {name: _heard_by(emitter) for name, emitter in self._emitters()}
        self._values = dict(self._fields())
        self._attributes = {name: set(vars(part)) for name, part in self._parts()}
        self._mouse = {name: list(getattr(viewer, name)) for name in _MOUSE}
        self._keymap = dict(viewer.keymap)
        self._hidden = [(each, each.isHidden()) for each in self._objects.values() if isinstance(each, QWidget)]
        self._shortcuts = [(action, action.shortcuts()) for action in self._window.findChildren(QAction)]
        self._fresh = self.state()

    @property
    def is_there(self) -> bool:
        """Whether nobody closed the window."""
        return hasattr(self.viewer.window, "_qt_window")

    # -- what it is made of --------------------------------------------------------------------------------------

    def _models(self) -> Iterator[tuple[str, Any]]:
        """Yield every part of the viewer that tells of its changes, with its name."""
        seen: set[int] = set()

        def walk(name: str, part: Any) -> Iterator[tuple[str, Any]]:
            if id(part) in seen:
                return
            seen.add(id(part))
            yield name, part
            for field in getattr(type(part), "model_fields", ()):
                value = getattr(part, field)
                if hasattr(value, "events"):
                    yield from walk(f"{name}.{field}", value)
            if hasattr(part, "items"):
                for key, value in part.items():
                    yield from walk(f"{name}.{key}", value)

        yield from walk("viewer", self.viewer)
        yield "viewer.layers.selection", self.viewer.layers.selection

    def _emitters(self) -> Iterator[tuple[str, Any]]:
        for name, part in (*self._models(), ("canvas", self._qt_viewer.canvas._scene_canvas)):
            group = part.events
            if hasattr(group, "emitters"):
                yield name, group
            emitters = group.emitters if hasattr(group, "emitters") else group._psygnal_instances
            yield from ((f"{name}.{event}", emitter) for event, emitter in emitters.items() if emitter is not None)

    def _fields(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for name, part in self._models():
            for field in getattr(type(part), "model_fields", ()):
                value = getattr(part, field)
                if not hasattr(value, "events"):
                    yield (name, field), value

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield what others may have hung functions of their own on."""
        yield "slicer", self.viewer._layer_slicer
        yield "qt viewer", self._qt_viewer
        yield "canvas", self._qt_viewer.canvas
        yield "qt window", self._window
        yield "window", self.viewer.window

    # -- the state -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that a test could see of what another one did."""
        window = self._window
        state: dict[str, Any] = {
            f"{name}.{field}": _plain(value) for (name, field), value in self._fields() if field not in _OF_THE_MOUSE
        }
        state |= {f"{name} is heard by": len(next(iter(_heard_by(one).values()))) for name, one in self._emitters()}
        state |= {f"{name} has": sorted(vars(part)) for name, part in self._parts()}
        state |= {name: [str(each) for each in getattr(self.viewer, name)] for name in _MOUSE}
        state["keymap"] = sorted(map(str, self.viewer.keymap))
        state["layers"] = [layer.name for layer in self.viewer.layers]
        state["tiles under way"] = len(self.viewer._layer_slicer._layers_to_task)
        state["size"], state["place"] = (window.width(), window.height()), (window.x(), window.y())
        state["seen"], state["title"] = window.isVisible(), window.windowTitle()
        state["focus"] = _called(window.focusWidget())
        state["nodes"] = Counter(type(node).__name__ for node in _nodes(self._qt_viewer.canvas.view))
        actions, objects = window.findChildren(QAction), window.findChildren(QObject)
        state["actions"] = Counter(
            (each.text(), each.shortcut().toString(), each.isEnabled(), each.isVisible(), each.isChecked())
            for each in actions
        )
        state["objects"] = Counter(_called(each) for each in objects if not isinstance(each, _MADE_ON_DEMAND))
        state["widgets"] = Counter(
            (_called(each), _is_hidden(each), each.isEnabled(), each.toolTip(), each.cursor().shape().name)
            for each in objects
            if isinstance(each, QWidget) and each.parent() is not window.statusBar()
        )
        return state

    def differences(self) -> Differences:
        """Return what is not as it was when the window was made."""
        now = self.state()
        names = self._fresh.keys() | now.keys()
        return {name: both for name in names if (both := (self._fresh.get(name), now.get(name)))[0] != both[1]}

    # -- taking back ---------------------------------------------------------------------------------------------

    def put_back(self) -> Differences:
        """Take back what was done to the window, and return what of it could not be taken back."""
        viewer = self.viewer
        if viewer.theme != self._values["viewer", "theme"]:
            # Painted all over, and back again, it would take longer than a new one.
            return {"theme": (self._values["viewer", "theme"], viewer.theme)}
        viewer.layers.clear()
        self._remove_objects()
        self._close_overlays()
        self._take_back_functions()
        models = dict(self._models())
        for (name, field), value in self._values.items():
            if _plain(getattr(models[name], field)) != _plain(value):
                setattr(models[name], field, value)
        self._qt_viewer.canvas._update_viewer_overlays()
        for action, shortcuts in self._shortcuts:
            if action.shortcuts() != shortcuts:
                action.setShortcuts(shortcuts)
        self._lay_out()
        return self.differences()

    def _take_back_functions(self) -> None:
        """Take back what was to be called from now on."""
        viewer = self.viewer
        for name, emitter in self._emitters():
            for key, value in self._callbacks.get(name, {}).items():
                setattr(emitter, key, list(value))
        for name, part in self._parts():
            for key in vars(part).keys() - self._attributes[name]:
                delattr(part, key)
        for name, value in self._mouse.items():
            getattr(viewer, name)[:] = value
        viewer.keymap.clear()
        viewer.keymap.update(self._keymap)

    def _remove_objects(self) -> None:
        """Remove what was put into the window: docks, bars, entries of menus and all else."""
        window = self._window
        for each in window.findChildren(QObject):
            # Only the uppermost, which take along what lies in them, and nothing of Qt's and napari's own.
            if id(each) in self._objects or not isalive(each) or id(each.parent()) not in self._objects:
                continue
            if not isinstance(each, _PUT_INTO) and type(each).__module__.startswith(("PyQt", "napari.")):
                continue
            if isinstance(each, QToolBar):
                window.removeToolBar(each)
            elif isinstance(each, QDockWidget):
                self.viewer.window._wrapped_dock_widgets.pop(getattr(each, "name", ""), None)
                window.removeDockWidget(each)
            each.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)

    def _close_overlays(self) -> None:
        canvas = self._qt_viewer.canvas
        for overlay, visuals in list(canvas._viewer_overlay_to_visual.items()):
            for visual in visuals:
                _undress(visual.node)
                visual.close()
            del canvas._viewer_overlay_to_visual[overlay]

    def _lay_out(self) -> None:
        window = self._window
        for widget, hidden in self._hidden:
            if widget is not window and isalive(widget) and widget.isHidden() is not hidden:
                widget.setHidden(hidden)
        window.resize(self._size)
        window.move(self._place)
        for dock in window.findChildren(QDockWidget):
            # Qt lets a dock grow with what lies in it, and never shrink.
            dock.setMinimumSize(0, 0)
            dock.layout().activate()
        let_events_come()
        window.restoreState(self._docks)
        if window.isVisible():
            self._qt_viewer.setFocus()
        elif window.focusWidget() is not None:
            window.focusWidget().clearFocus()
        let_events_come()


class KeptWindows:
    """Lends windows: one that is shown, and one that is not.

    Parameters
    ----------
    make
        Makes a viewer; gets whether it is shown.
    """

    def __init__(self, make: Callable[[bool], Viewer]) -> None:
        self._make = make
        self._kept: dict[bool, KeptWindow] = {}
        self._lent: set[bool] = set()
        #: What could not be taken back, once for every window that was closed for it.
        self.given_up: list[Differences] = []

    def lend(self, *, show: bool) -> Viewer | None:
        """Return a viewer as good as new; ``None`` where that one is lent."""
        if show in self._lent:
            return None
        if show not in self._kept:
            viewer = self._make(show)
            # napari's own look for windows that are left behind is not for this one.
            QtViewer._instances.discard(viewer.window._qt_viewer)
            self._kept[show] = KeptWindow(viewer)
            # What the window is made of is looked through no more.
            gc.collect()
            gc.freeze()
        self._lent.add(show)
        viewer = self._kept[show].viewer
        # The window that was made last is napari's current one.
        _QtMainWindow._instances.remove(viewer.window._qt_window)
        _QtMainWindow._instances.append(viewer.window._qt_window)
        return viewer

    def take_back(self, *, keep: bool) -> None:
        """Make what was lent as good as new, or close it."""
        for show in list(self._lent):
            self._lent.discard(show)
            kept = self._kept[show]
            if keep and kept.is_there:
                differences = kept.put_back()
                if not differences:
                    continue
                self.given_up.append(differences)
            self._close(show)

    def close(self) -> None:
        """Close all windows."""
        for show in list(self._kept):
            self._close(show)

    def _close(self, show: bool) -> None:
        viewer = self._kept.pop(show).viewer
        if hasattr(viewer.window, "_qt_window"):
            # Once it is closed, it has to be gone as any other.
            QtViewer._instances.add(viewer.window._qt_viewer)
            close_viewer(viewer)


def close_viewer(viewer: Viewer) -> None:
    """Close a viewer that may be closed already, without a note of where its window lay."""
    if not hasattr(viewer.window, "_qt_window"):
        with suppress(RuntimeError):
            viewer.close()
        return
    with patch.object(viewer.window._qt_window, "_save_current_window_settings"):
        viewer.close()


def let_events_come() -> None:
    """Let Qt do what it has put off, deletions too."""
    for _ in range(2):
        QCoreApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


def _heard_by(emitter: Any) -> dict[str, list[Any]]:
    return {key: list(getattr(emitter, key)) for key in _CALLBACKS if hasattr(emitter, key)}


def _called(each: QObject | None) -> str:
    return "none" if each is None else f"{type(each).__name__} {each.objectName()}"


def _is_hidden(widget: QWidget) -> bool:
    """Return whether nothing is seen of a widget, as of a label without a word."""
    return widget.isHidden() or (isinstance(widget, QLabel) and not widget.text())


def _plain(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from _nodes(child)


def _undress(node: Any) -> None:
    """Take off what was added to a node of napari's, which takes away only its own."""
    vars(node).pop("set_data", None)
    for part in getattr(node, "_subvisuals", [])[:]:
        if not type(part).__module__.startswith(("vispy", "napari.")):
            node.remove_subvisual(part)
