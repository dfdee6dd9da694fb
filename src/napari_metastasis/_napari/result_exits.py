"""The row of what is done with a result: a report, a picture, its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_metastasis._napari.compat import copy_picture

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.slide_controller import SlideController

__all__ = ["ResultExits"]


class ResultExits(QWidget):
    """Buttons that write a report, copy what is seen, and open the folder.

    Parameters
    ----------
    viewer
        The viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._controller: SlideController | None = None
        self.report_button, self.picture_button, self.folder_button = (
            QPushButton(text) for text in ("Report", "Copy picture", "Folder")
        )
        self.report_button.setToolTip("Write a page with the findings, their sizes and pictures, and open it")
        self.picture_button.setToolTip("Copy what the window shows of the slide, to paste it elsewhere")
        self.report_button.clicked.connect(lambda _: self._write_report())
        self.picture_button.clicked.connect(self._copy_picture)
        self.folder_button.clicked.connect(lambda _: self._open_folder())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for button in (self.report_button, self.picture_button, self.folder_button):
            row.addWidget(button, 1)

    def show_result(self, controller: SlideController | None) -> None:
        """Serve another slide, or another result of it."""
        self._controller = controller
        session = None if controller is None else controller.session
        self.picture_button.setEnabled(session is not None and session.probabilities is not None)
        folder = None if session is None else session.folder
        for button in (self.folder_button, self.report_button):
            button.setEnabled(folder is not None)
        self.folder_button.setToolTip(f"Open the folder with the results: {folder}" if folder else "No result yet")

    def _write_report(self) -> None:
        if self._controller is not None:
            self._controller.results.write_report(_open_report)

    def _copy_picture(self, *_: object) -> None:
        copy_picture(self._viewer)
        show_info("The picture is on the clipboard")

    def _open_folder(self) -> None:
        folder = None if self._controller is None else self._controller.session.folder
        if folder is not None and not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            show_info(f"No program here opens folders. The results lie in {folder}")


def _open_report(path: Path) -> None:
    if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path))):
        show_info(f"No program here opens pages. The report lies in {path}")
