"""The overview: the whole slide in the canvas' corner, with the view's frame, heat, and what was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QBrush, QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from qtpy.QtWidgets import QWidget

from napari_metastasis._napari.canvas_corner import BACKGROUND, keep_in_corner
from napari_metastasis._napari.colors import map_colormap, shown_limits
from napari_metastasis._napari.qt_image import image_of
from napari_metastasis.geometry import Point

if TYPE_CHECKING:
    from napari_metastasis._napari.looked_at import LookedAt
    from napari_metastasis._napari.overview_work import OverviewHeat
    from napari_metastasis._napari.view_transform import ViewTransform
    from napari_metastasis.geometry import Size

__all__ = ["Overview", "thumbnail_image"]

#: Longer side of the slide in the overview, and what is left around it.
_SIDE_PX, _BORDER_PX = 210, 4
#: The frame of the view is at least so large, so that it is seen at 40x.
_SMALLEST_FRAME_PX = 6.0
_FRAME_COLOR, _FRAME_HALO = QColor(0, 0, 0), QColor(255, 255, 255, 220)
#: Tissue that was not scanned.
_HATCH = QColor(60, 60, 60, 190)
#: What was looked at closely: red, green, blue, and the opacity inside and at its edge.
_LOOKED_AT, _LOOKED_AT_ALPHA, _LOOKED_AT_EDGE = (0, 130, 80), 45, 190
#: Heat is small here and has to be found: less of the slide shines through than on the slide itself.
_HEAT_ALPHA = 230


class Overview(QWidget):
    """Shows a slide small, and says where somebody clicked.

    The picture lies as the slide does in its file; the frame turns with the view.

    Parameters
    ----------
    canvas
        What napari draws in.
    """

    #: A level-0 location is wanted in the middle of the window.
    wanted = Signal(object)
    #: The mouse came from the slide below, which Qt does not tell.
    entered = Signal()

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setObjectName("metastasis-overview")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip(
            "The whole slide: click or drag to go there.\nGreen: looked at at 10× or closer. Hatched: not scanned."
        )
        self._size: Size | None = None
        self._view: ViewTransform | None = None
        self._thumbnail: QImage | None = None
        self._heat: QImage | None = None
        self._looked_at: QImage | None = None
        self._looked_at_px = 1.0
        keep_in_corner(self, Qt.Corner.TopRightCorner)
        self.hide()

    # -- what is shown -------------------------------------------------------------------------------------------

    def show_slide(self, size: Size | None) -> None:
        """Show a slide of a size in level-0 pixels, white until its picture comes; ``None`` where there is none."""
        self._size = size
        self._thumbnail = self._heat = self._looked_at = None
        if size is not None:
            width, height = (max(1, round(side * self._scale)) for side in (size.width, size.height))
            self.setFixedSize(width + 2 * _BORDER_PX, height + 2 * _BORDER_PX)
        self.update()

    def show_thumbnail(self, thumbnail: QImage) -> None:
        """Show the slide's picture."""
        self._thumbnail = thumbnail
        self.update()

    def show_heat(self, heat: OverviewHeat | None, colors: str, threshold: float) -> None:
        """Show a map from the threshold on, and tissue that was not scanned; ``None`` where nothing was.

        Parameters
        ----------
        heat
            The map, small.
        colors
            Name of its colours.
        threshold
            Probability from which it is shown.
        """
        self._heat = None if heat is None or self._size is None else self._drawn_heat(heat, colors, threshold)
        self.update()

    def show_looked_at(self, looked_at: LookedAt) -> None:
        """Show what was looked at."""
        mask = looked_at.mask
        inner = mask.copy()
        for axis in (0, 1):
            for step in (1, -1):
                inner &= np.roll(mask, step, axis)
        alpha = np.where(mask, np.where(inner, _LOOKED_AT_ALPHA, _LOOKED_AT_EDGE), 0).astype(np.uint8)
        pixels = np.zeros((*mask.shape, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = _LOOKED_AT, alpha
        self._looked_at = image_of(pixels)
        self._looked_at_px = looked_at.cell_px
        self.update()

    def show_view(self, view: ViewTransform | None) -> None:
        """Show the frame of what the window shows."""
        if view != self._view:
            self._view = view
            self.update()

    @property
    def _scale(self) -> float:
        """Return the pixels along a level-0 pixel."""
        assert self._size is not None
        return _SIDE_PX / max(self._size.width, self._size.height)

    def place_of(self, point: Point) -> QPointF:
        """Return where a level-0 location lies in the overview."""
        return QPointF(point.x * self._scale + _BORDER_PX, point.y * self._scale + _BORDER_PX)

    @property
    def frame(self) -> QPolygonF | None:
        """Return the frame of the view as it is painted, clockwise on the screen; ``None`` where there is none."""
        if self._view is None or self._size is None:
            return None
        corners = [self.place_of(corner) for corner in self._view.corners]
        center = self.place_of(self._view.focus)
        widths = (abs(corners[2].x() - corners[0].x()), abs(corners[2].y() - corners[0].y()))
        grown = [max(1.0, _SMALLEST_FRAME_PX / max(width, 1e-9)) for width in widths]
        return QPolygonF(
            [
                QPointF(
                    center.x() + (corner.x() - center.x()) * grown[0],
                    center.y() + (corner.y() - center.y()) * grown[1],
                )
                for corner in corners
            ]
        )

    def _drawn_heat(self, heat: OverviewHeat, colors: str, threshold: float) -> QImage:
        """Return heat over hatch, as large as the overview on this screen."""
        ratio = self.devicePixelRatioF()
        drawn = QImage(self.size() * ratio, QImage.Format.Format_ARGB32_Premultiplied)
        drawn.setDevicePixelRatio(ratio)
        drawn.fill(0)
        rows, columns = heat.values.shape
        corner = self.place_of(heat.corner)
        side = heat.block_px * self._scale
        place = QRectF(corner.x(), corner.y(), columns * side, rows * side)
        painter = QPainter(drawn)
        if heat.missing.any():
            painter.fillRect(QRectF(0, 0, self.width(), self.height()), QBrush(_HATCH, Qt.BrushStyle.BDiagPattern))
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_DestinationIn)
            # All of the overview, so that nothing outside the map stays hatched.
            mask = QImage(drawn.size(), QImage.Format.Format_ARGB32_Premultiplied)
            mask.setDevicePixelRatio(ratio)
            mask.fill(0)
            pixels = np.zeros((rows, columns, 4), np.uint8)
            pixels[..., 3] = heat.missing * np.uint8(255)
            on_mask = QPainter(mask)
            on_mask.drawImage(place, image_of(pixels))
            on_mask.end()
            painter.drawImage(QPointF(0, 0), mask)
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
        painter.drawImage(place, image_of(_heat_pixels(heat.values, colors, threshold)))
        painter.end()
        return drawn

    # -- Qt ------------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802
        """Paint the slide, heat and hatch, what was looked at, and the frame."""
        if self._size is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillRect(self.rect(), QColor(*BACKGROUND))
        width, height = self.width() - 2 * _BORDER_PX, self.height() - 2 * _BORDER_PX
        slide = QRectF(_BORDER_PX, _BORDER_PX, width, height)
        painter.fillRect(slide, QColor(255, 255, 255))
        painter.setClipRect(slide)
        if self._thumbnail is not None:
            painter.drawImage(slide, self._thumbnail)
        if self._heat is not None:
            painter.drawImage(QPointF(0, 0), self._heat)
        # Over the heat: what is looked at closely is mostly findings.
        if self._looked_at is not None:
            side = self._looked_at_px * self._scale
            size = QRectF(_BORDER_PX, _BORDER_PX, self._looked_at.width() * side, self._looked_at.height() * side)
            painter.drawImage(size, self._looked_at)
        frame = self.frame
        if frame is not None:
            painter.setClipRect(QRectF(self.rect()))
            for pen in (QPen(_FRAME_HALO, 4), QPen(_FRAME_COLOR, 1.6)):
                pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
                painter.setPen(pen)
                painter.drawPolygon(frame)
        painter.end()

    def enterEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Say that the mouse left the slide below."""
        super().enterEvent(event)
        self.entered.emit()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Go to where the mouse is pressed."""
        self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Go on while it is dragged."""
        self._go(event)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Keep it from the slide below."""
        if event is not None:
            event.accept()

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802
        """Keep the wheel from a slide that is not under the mouse."""
        if event is not None:
            event.accept()

    def _go(self, event: QMouseEvent | None) -> None:
        if event is None:
            return
        event.accept()
        if self._size is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        x, y = ((value - _BORDER_PX) / self._scale for value in (event.position().x(), event.position().y()))
        self.wanted.emit(Point(min(max(x, 0.0), self._size.width), min(max(y, 0.0), self._size.height)))


def _heat_pixels(values: npt.NDArray[np.float32], colors: str, threshold: float) -> npt.NDArray[np.uint8]:
    """Return the colours of probabilities from a threshold on, uint8 of shape (rows, columns, 4)."""
    low, high = shown_limits(threshold)
    found = np.nan_to_num(values, nan=-1.0)
    colormap = map_colormap(colors, threshold, scanning=False)
    mapped = colormap.map(np.clip((found - low) / (high - low), 0, 1).ravel()).reshape(*values.shape, 4)
    pixels = np.rint(mapped * 255).astype(np.uint8)
    pixels[..., 3] = np.where(found >= threshold, _HEAT_ALPHA, 0)
    return pixels


def thumbnail_image(pixels: npt.NDArray[np.uint8], ratio: float) -> QImage:
    """Return a slide's coarsest level, as large as the overview shows it on a screen of so many pixels to a point."""
    side = round(_SIDE_PX * ratio)
    return image_of(pixels).scaled(
        side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
