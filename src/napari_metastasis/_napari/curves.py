"""Small plain curves: how a retraining goes from one round to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Curves"]

_HEIGHT_PX, _GAP_PX, _PAD_PX = 118, 16, 3
#: Read in both themes, and told apart by every eye: also by their dashes.
_COLORS = (QColor("#2f7fd0"), QColor("#e07b00"))


@dataclass(frozen=True, slots=True)
class _Plot:
    """One of the pictures: its title, and the figures that it shows, by what a person calls them."""

    title: str
    lines: tuple[tuple[str, str], ...]
    #: Both ends of the axis; ``None`` for those of the figures.
    ends: tuple[float, float] | None


_PLOTS = (
    _Plot("Error, should fall", (("train_loss", "learning"), ("validation_loss", "checked")), None),
    _Plot("Right, should rise", (("validation_accuracy", "answers"), ("validation_auc", "ranking")), (0.0, 1.0)),
)


class Curves(QWidget):
    """Draws the figures of each epoch, on the left those that should fall and on the right those that should rise."""

    def __init__(self) -> None:
        super().__init__()
        self._epochs: tuple[Mapping[str, float], ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Left: how wrong it is, on what it learns from and on what it is checked with; both should fall.\n"
            "Right: which share of the answers is right, and how well tumour is ranked over normal tissue (AUC); both "
            "should rise"
        )

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return a low, wide strip."""
        return QSize(200, _HEIGHT_PX)

    @property
    def epochs(self) -> tuple[Mapping[str, float], ...]:
        """Return what is drawn."""
        return self._epochs

    def show_epochs(self, epochs: Sequence[Mapping[str, float]]) -> None:
        """Draw the figures of some epochs."""
        if tuple(epochs) != self._epochs:
            self._epochs = tuple(epochs)
            self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: ARG002, N802
        """Paint both pictures beside each other."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width = (self.width() - _GAP_PX) / len(_PLOTS)
        for number, plot in enumerate(_PLOTS):
            self._paint(painter, plot, QRectF(number * (width + _GAP_PX), 0, width, self.height()))
        painter.end()

    def _paint(self, painter: QPainter, plot: _Plot, place: QRectF) -> None:
        metrics = painter.fontMetrics()
        line = float(metrics.height())
        text = self.palette().color(QPalette.ColorRole.WindowText)
        area = place.adjusted(_PAD_PX, line + 2, -_PAD_PX, -2 * line - 2)
        known = [[one[name] for one in self._epochs if name in one] for name, _ in plot.lines]
        values = [value for line_ in known for value in line_]
        low, high = plot.ends or (0.0, max(values, default=1.0) or 1.0)
        painter.setPen(text)
        painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, plot.title)
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        below = area.bottom() + line
        for (_, called), figures, color in zip(plot.lines, known, _COLORS, strict=True):
            dashed = color is _COLORS[1]
            pen = QPen(color, 2, Qt.PenStyle.DashLine if dashed else Qt.PenStyle.SolidLine)
            painter.setPen(pen)
            self._paint_line(painter, figures, area, low, high)
            said = f"{called} {figures[-1]:.2f}" if figures else called
            painter.setPen(color)
            painter.drawText(QPointF(area.left(), below - metrics.descent()), said)
            below += line

    def _paint_line(self, painter: QPainter, figures: Sequence[float], area: QRectF, low: float, high: float) -> None:
        if not figures:
            return
        step = area.width() / max(1, len(figures) - 1)
        points = [
            QPointF(area.left() + number * step, area.bottom() - (figure - low) / (high - low) * area.height())
            for number, figure in enumerate(figures)
        ]
        if len(points) == 1:
            painter.drawEllipse(points[0], 1.5, 1.5)
        else:
            painter.drawPolyline(QPolygonF(points))
