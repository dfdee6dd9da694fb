"""A small window with a slide's label and its macro image, shown on request only."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap, QTransform
from qtpy.QtWidgets import QDialog, QGroupBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_metastasis._napari.qt_image import image_of
from napari_metastasis._napari.worker import Worker, explain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_metastasis.slides import Slide

__all__ = ["AssociatedImages", "shown_names"]

#: What is shown of the images beside a slide, in this order; others are further sections, or levels of odd sizes.
_SHOWN = {"label": "Label", "macro": "Macro image", "overview": "Overview", "map": "Map"}
#: Longest side of an image in the window, in pixels.
_SIDE_PX = 520


def shown_names(slide: Slide) -> tuple[str, ...]:
    """Return the names of the images beside a slide that a person may want to see."""
    return tuple(name for name in _SHOWN if name in slide.associated_images)


class AssociatedImages(QDialog):
    """Reads the images beside the window and shows them. A label may name a patient: nothing of it is kept or written.

    Parameters
    ----------
    slide
        The open slide.
    parent
        The napari window.
    """

    def __init__(self, slide: Slide, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Label and macro image of {slide.name}")
        #: By name: what shows the image, or says why it cannot be shown.
        self.images: dict[str, QLabel] = {}
        self._pixmaps: dict[str, QPixmap] = {}
        self._workers: list[Worker] = []
        layout, row = QVBoxLayout(self), QHBoxLayout()
        layout.addLayout(row)
        for name in shown_names(slide):
            row.addWidget(self._box(name))
            worker = Worker(partial(_read, slide, name), name="label", parent=self, urgent=True)
            worker.succeeded.connect(partial(self._show_image, name))
            worker.failed.connect(partial(self._show_error, name))
            self._workers.append(worker)
            worker.start()
        notice = QLabel("A label may name a patient. It is shown here only, and is written nowhere.")
        notice.setEnabled(False)
        layout.addWidget(notice)
        self.finished.connect(self._let_go)

    def _let_go(self) -> None:
        """Let go of the images, however the window was closed."""
        for worker in self._workers:
            worker.abandon()
        self._pixmaps.clear()
        self.deleteLater()

    def _box(self, name: str) -> QWidget:
        box = QGroupBox(_SHOWN[name])
        inside = QVBoxLayout(box)
        label = self.images[name] = QLabel("Reading…")
        label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        label.setMinimumSize(180, 140)
        label.setWordWrap(True)
        inside.addWidget(label, 1)
        turn = QToolButton()
        turn.setText("↻")
        turn.setToolTip("Turn by 90°")
        turn.clicked.connect(lambda _: self._turn(name))
        inside.addWidget(turn, 0, Qt.AlignmentFlag.AlignRight)
        return box

    def _show_image(self, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        pixmap = QPixmap.fromImage(image_of(pixels))
        if max(pixmap.width(), pixmap.height()) > _SIDE_PX:
            keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            pixmap = pixmap.scaled(_SIDE_PX, _SIDE_PX, keep, smooth)
        self._pixmaps[name] = pixmap
        self.images[name].setPixmap(pixmap)

    def _show_error(self, name: str, error: BaseException) -> None:
        self.images[name].setText(explain(error))

    def _turn(self, name: str) -> None:
        if name in self._pixmaps:
            self._pixmaps[name] = self._pixmaps[name].transformed(QTransform().rotate(90))
            self.images[name].setPixmap(self._pixmaps[name])
            self.adjustSize()


def _read(slide: Slide, name: str, _: Any) -> npt.NDArray[np.uint8]:
    """Return an image beside a slide, shrunk by whole steps to a few times the size that is shown."""
    pixels = slide.associated_images[name]
    step = max(1, max(pixels.shape[:2]) // (4 * _SIDE_PX))
    return pixels[::step, ::step]
