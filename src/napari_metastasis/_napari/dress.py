"""Dresses a napari window as the program's own: the slide in the middle, napari's own tools one menu entry away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtWidgets import QDockWidget

from napari_metastasis._napari.compat import actions_of_key, napari_docks, paint_glass_white, window_of
from napari_metastasis._napari.panel import MetastasisPanel
from napari_metastasis._napari.slide_list import SlideList, fill_recent
from napari_metastasis._napari.slide_widget import choose_slides
from napari_metastasis._napari.workspace import Workspace

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtWidgets import QMenu

    from napari_metastasis._napari.slide_controller import SlideController

__all__ = ["TOOLS", "dress"]

#: The menu entry that shows napari's own tools.
TOOLS = "napari's own tools"
_TITLE = "Metastasis"


def dress(viewer: Viewer) -> None:
    """Put the list of slides on the left, hide napari's own tools, and make glass white."""
    workspace = Workspace.of(viewer)
    slides = viewer.window.add_dock_widget(
        SlideList(viewer), name="Slides", area="left", add_vertical_stretch=False, menu=viewer.window.window_menu
    )
    slides.setTitleBarWidget(None)
    panel = window_of(viewer).findChild(MetastasisPanel)
    if panel is not None and isinstance(panel.parent(), QDockWidget):
        window_of(viewer).resizeDocks(
            [slides, panel.parent()],
            [slides.sizeHint().width(), panel.sizeHint().width()],
            Qt.Orientation.Horizontal,
        )
    paint_glass_white(viewer)
    _add_actions(viewer, workspace)
    workspace.current_changed.connect(lambda controller: _entitle(viewer, controller))
    _entitle(viewer, workspace.current)


def _entitle(viewer: Viewer, controller: SlideController | None) -> None:
    viewer.title = _TITLE if controller is None else f"{controller.session.slide.name} · {_TITLE}"


def _add_actions(viewer: Viewer, workspace: Workspace) -> None:
    window = window_of(viewer)
    menus = viewer.window
    opens, closes = QKeySequence(QKeySequence.StandardKey.Open), QKeySequence("Ctrl+W")
    # These keys are for slides; napari's own entries stay, without them.
    for action in (*actions_of_key(viewer, opens), *actions_of_key(viewer, closes)):
        action.setShortcut(QKeySequence())
    open_slide = QAction("Open slide…", window)
    open_slide.setShortcut(opens)
    open_slide.triggered.connect(lambda: choose_slides(viewer))
    recent: QMenu = _recent_menu(viewer, workspace)
    close = QAction("Close slide", window)
    close.setShortcut(closes)
    close.triggered.connect(lambda _: workspace.close_current())
    first = menus.file_menu.actions()[0] if menus.file_menu.actions() else None
    menus.file_menu.insertActions(first, [open_slide, recent.menuAction(), close])
    window.addActions([open_slide, close])
    tools = QAction(TOOLS, window)
    tools.setCheckable(True)
    tools.setToolTip("Layers and their controls, 3-D, grid and console")
    tools.toggled.connect(lambda shown: _show_tools(viewer, shown))
    menus.window_menu.addAction(tools)
    _show_tools(viewer, shown=False)


def _recent_menu(viewer: Viewer, workspace: Workspace) -> QMenu:
    from qtpy.QtWidgets import QMenu

    menu = QMenu("Open recent", window_of(viewer))
    menu.aboutToShow.connect(lambda: fill_recent(menu, workspace))
    return menu


def _show_tools(viewer: Viewer, shown: bool) -> None:
    for dock in napari_docks(viewer):
        dock.setVisible(shown)
    # Its coordinates are pixels, y first; the canvas has a line of its own.
    window_of(viewer).statusBar().setVisible(shown)
