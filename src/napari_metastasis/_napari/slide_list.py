"""The list of open slides, each with its picture and how far it is: the left side of the window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtGui import QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QListWidget, QListWidgetItem, QMenu, QToolButton, QVBoxLayout, QWidget

from napari_metastasis._napari.qt_image import image_of
from napari_metastasis._napari.slide_state import slide_state
from napari_metastasis._napari.slide_widget import choose_address, choose_folder, choose_slides
from napari_metastasis._napari.workspace import Workspace

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.slide_controller import SlideController

__all__ = ["SlideList"]

_ICON = QSize(112, 78)
_ITEM = QSize(134, 128)
_WIDTH = 142
#: Characters of a name that are shown: a longer one keeps its beginning and its end, where names differ.
_NAME = 18


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 1]}…{name[-_NAME // 2 :]}"


def _icon(picture: npt.NDArray[np.uint8] | None) -> QIcon:
    """Return a slide's picture in the middle of a field of white glass, so that all are of one size."""
    field = QPixmap(_ICON)
    field.fill(Qt.GlobalColor.white)
    if picture is None:
        return QIcon(field)
    mode, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    scaled = image_of(picture).scaled(_ICON, mode, smooth)
    painter = QPainter(field)
    painter.drawImage((_ICON.width() - scaled.width()) // 2, (_ICON.height() - scaled.height()) // 2, scaled)
    painter.end()
    icon = QIcon(field)
    # Tissue keeps its colours where its slide is chosen.
    icon.addPixmap(field, QIcon.Mode.Selected)
    return icon


class SlideList(QWidget):
    """Lists the open slides; a click shows one.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._workspace = Workspace.of(napari_viewer)
        self._heard: list[SlideController] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        self.open_button, self.recent_button, self.close_button = QToolButton(), QToolButton(), QToolButton()
        for button, text, tip in (
            (self.open_button, "Open…", "Open slides (Ctrl+O), or drop their files onto the window"),
            (self.recent_button, "▾", "Slides that were opened last, the sample, folders and addresses"),
            (self.close_button, "✕", "Close the slide that is shown (Ctrl+W): its results stay beside its file"),
        ):
            button.setText(text)
            button.setToolTip(tip)
            button.setAutoRaise(True)
        self.open_button.clicked.connect(lambda: choose_slides(self._workspace.viewer, self))
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(lambda: fill_recent(self._menu, self._workspace))
        self.recent_button.setMenu(self._menu)
        self.recent_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.close_button.clicked.connect(lambda _: self._workspace.close_current())
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(self.open_button, 1)
        row.addWidget(self.recent_button)
        row.addStretch(1)
        row.addWidget(self.close_button)
        layout.addLayout(row)
        self.list = QListWidget(self)
        self.list.setViewMode(QListWidget.ViewMode.IconMode)
        self.list.setFlow(QListWidget.Flow.TopToBottom)
        self.list.setWrapping(False)
        self.list.setMovement(QListWidget.Movement.Static)
        self.list.setIconSize(_ICON)
        self.list.setGridSize(_ITEM)
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._on_menu)
        self.list.currentRowChanged.connect(self._on_row)
        layout.addWidget(self.list, 1)
        self.empty = QLabel("No slide is open.\nOpen one, or drop its file onto the window.")
        self.empty.setWordWrap(True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.empty, 1)
        self.setMinimumWidth(_WIDTH)
        self.setMaximumWidth(_WIDTH + 60)
        self._workspace.controllers_changed.connect(self._show_slides)
        self._workspace.current_changed.connect(lambda _: self._show_current())
        self._workspace.opening_changed.connect(self._on_opening)
        self._show_slides()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the width that the dock takes at first."""
        return QSize(_WIDTH, 600)

    def _on_opening(self, count: int) -> None:
        self.open_button.setText("Opening…" if count else "Open…")

    def _on_row(self, row: int) -> None:
        if 0 <= row < len(self._workspace.controllers):
            self._workspace.show(self._workspace.controllers[row])

    def _on_menu(self, at: QPoint) -> None:
        item = self.list.itemAt(at)
        if item is None:
            return
        controller = self._workspace.controllers[self.list.row(item)]
        menu = QMenu(self)
        menu.addAction("Show").triggered.connect(lambda: self._workspace.show(controller))
        menu.addAction("Close").triggered.connect(lambda: self._workspace.close_slide(controller))
        menu.exec(self.list.mapToGlobal(at))

    def _show_slides(self) -> None:
        controllers = self._workspace.controllers
        for controller in controllers:
            if controller not in self._heard:
                session = controller.session
                again = partial(self._show_state, controller)
                for signal in (
                    session.activity_changed,
                    session.coverage_changed,
                    session.maps_replaced,
                    session.looking_changed,
                    session.review_changed,
                    session.threshold_changed,
                    session.thumbnail_changed,
                ):
                    signal.connect(again)
        self._heard = list(controllers)
        self.list.blockSignals(True)
        self.list.clear()
        for _ in controllers:
            item = QListWidgetItem()
            item.setSizeHint(_ITEM)
            item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter)
            self.list.addItem(item)
        self.list.blockSignals(False)
        for controller in controllers:
            self._show_state(controller)
        self._show_current()

    def _show_state(self, controller: SlideController, *_: object) -> None:
        if controller not in self._workspace.controllers:
            return
        item = self.list.item(self._workspace.controllers.index(controller))
        if item is None:
            return
        session = controller.session
        state = slide_state(session)
        text = f"{_short(session.slide.name)}\n{state.short}"
        if item.text() != text:
            item.setText(text)
            item.setToolTip(f"{session.slide.path}\n{state.long}")
        # Compared by identity: a picture is made once.
        if item.data(Qt.ItemDataRole.UserRole) != id(session.thumbnail):
            item.setData(Qt.ItemDataRole.UserRole, id(session.thumbnail))
            item.setIcon(_icon(session.thumbnail))

    def _show_current(self) -> None:
        controllers, current = self._workspace.controllers, self._workspace.current
        self.list.setVisible(bool(controllers))
        self.empty.setVisible(not controllers)
        self.close_button.setEnabled(current is not None)
        self.list.blockSignals(True)
        self.list.setCurrentRow(controllers.index(current) if current in controllers else -1)
        self.list.blockSignals(False)


def fill_recent(menu: QMenu, workspace: Workspace) -> None:
    """Fill a menu with the slides that were opened last, the sample, and slides that are no file."""
    menu.clear()
    for path in workspace.recent:
        action = menu.addAction(path.name)
        action.setToolTip(str(path))
        action.triggered.connect(lambda _, path=path: workspace.open([path]))
    if workspace.recent:
        menu.addSeparator()
    menu.addAction("Synthetic lymph node (sample)").triggered.connect(lambda _: workspace.open_sample())
    menu.addSeparator()
    for text, choose in (("Open folder…", choose_folder), ("Open address…", choose_address)):
        menu.addAction(text).triggered.connect(lambda _, choose=choose: choose(workspace.viewer))
