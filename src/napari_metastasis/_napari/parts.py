"""Small pieces that the panel's parts share, so that they look alike."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QDoubleSlider, QLabeledDoubleSlider

from napari_metastasis._napari.timers import single_shot

__all__ = [
    "ErrorLine",
    "Folded",
    "Heading",
    "ProgressBar",
    "align_fields",
    "area_text",
    "form_layout",
    "length_text",
    "part_layout",
    "probability_slider",
    "time_text",
]

#: The design's only measures, in pixels.
MARGIN, SPACING = 10, 8
#: Width of the longest label, "Show from", in pixels: fields begin at one edge, in whichever part they are.
_LABEL_WIDTH = 78
_THOUSANDTHS = 1000
#: How many steps a key moves a slider that was clicked.
_STEPS = {
    Qt.Key.Key_Left: -1, Qt.Key.Key_Down: -1, Qt.Key.Key_PageDown: -5,
    Qt.Key.Key_Right: 1, Qt.Key.Key_Up: 1, Qt.Key.Key_PageUp: 5,
}  # fmt: skip


def part_layout(part: QWidget, title: str) -> QVBoxLayout:
    """Give a part its margins, and its heading where it has a title."""
    layout = QVBoxLayout(part)
    layout.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
    layout.setSpacing(SPACING)
    if title:
        layout.addWidget(Heading(title))
    return layout


def form_layout() -> QFormLayout:
    """Return a form whose fields fill the width, labels to the left of them."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setHorizontalSpacing(SPACING + 4)
    layout.setVerticalSpacing(SPACING - 2)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return layout


def align_fields(part: QWidget) -> None:
    """Align the fields of a part's forms with those of the other parts."""
    for form in part.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
            if label is not None and label.widget() is not None:
                label.widget().setMinimumWidth(_LABEL_WIDTH)


class Heading(QLabel):
    """The title of a part."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        font = self.font()
        font.setBold(True)
        font.setPointSizeF(font.pointSizeF() * 1.15)
        self.setFont(font)


#: Qt's own limit: as high as it likes.
_ANY_HEIGHT = (1 << 24) - 1


class Folded(QCollapsible):
    """A section that is folded until its title is clicked.

    Parameters
    ----------
    title
        Its title.
    inside
        What it holds.
    """

    def __init__(self, title: str, inside: QWidget) -> None:
        super().__init__(title, expandedIcon="▾", collapsedIcon="▸")
        self.setDuration(0)
        self.content().layout().setContentsMargins(12, 0, 0, 0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.addWidget(inside)
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, unfolded: bool) -> None:
        # Of its own, it would keep to the height that it had at first, and squeeze what is broken into lines later.
        self.content().setMaximumHeight(_ANY_HEIGHT if unfolded else 0)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Keep the height free."""
        return False


class ErrorLine(QWidget):
    """One line of failure, wrapped, which can be closed; takes no room while there is none.

    Dark on light, with its own border, it reads on light and dark themes alike. It stays until it is closed, or until
    the next line, or none, is shown.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Lines are shown again with whatever else changes: what was closed stays closed until another follows.
        self._dismissed = ""
        self._label = QLabel()
        self._label.setWordWrap(True)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.close_button = QToolButton()
        self.close_button.setText("×")
        self.close_button.setToolTip("Close this message")
        self.close_button.setAccessibleName("Close this message")
        self.close_button.setAutoRaise(True)
        self.close_button.clicked.connect(self._dismiss)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(6, 4, 2, 4)
        layout.setSpacing(4)
        layout.addWidget(self._label, 1)
        layout.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.setObjectName("metastasis-error")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setStyleSheet(
            "#metastasis-error { background: #fde3e1; border: 1px solid #b3261e; border-radius: 4px; }"
            "#metastasis-error QLabel, #metastasis-error QToolButton { color: #5c0f0a; background: transparent; }"
            "#metastasis-error QToolButton { border: none; font-weight: bold; }"
        )
        self._soon = single_shot(self, 0, self._come_into_sight)
        self.hide()

    def text(self) -> str:
        """Return what is shown; empty where there is nothing."""
        return self._label.text()

    def show_error(self, line: str) -> None:
        """Show the line that holds now; an empty one takes the last away, and one that was closed stays closed."""
        if line and line == self._dismissed:
            return
        self.show_failure(line)

    def show_failure(self, line: str) -> None:
        """Show what has just failed, although the same may have been closed before."""
        self._dismissed = ""
        fresh = line != self.text()
        self._label.setText(line)
        self.setVisible(bool(line))
        if line and fresh:
            # Once it has its place.
            self._soon.start()

    def _come_into_sight(self) -> None:
        """Scroll the panel to the line: nothing else tells of it."""
        above = self.parentWidget()
        while above is not None and not isinstance(above, QScrollArea):
            above = above.parentWidget()
        if above is not None and self.isVisible():
            above.ensureWidgetVisible(self)

    def _dismiss(self) -> None:
        self._dismissed = self.text()
        self._label.clear()
        self.hide()


class ProgressBar(QProgressBar):
    """Says how far something is. While that is not known it stands still: whoever shows it says what is being done.

    The moving bar that Qt has for this paints the whole window anew with every picture, slide included. Without a
    graphics processor that takes most of a core, from the very work that is waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, _THOUSANDTHS)
        self.setTextVisible(False)
        self.setFixedHeight(8)
        self.show_progress(0, 0)

    def show_progress(self, done: int, total: int) -> None:
        """Show how much of a whole is done; a ``total`` of 0 is not known."""
        # Thousandths, because pixels overflow.
        self.setValue(round(_THOUSANDTHS * done / total) if total else 0)


def probability_slider(low: float, high: float, *, step: float) -> QLabeledDoubleSlider:
    """Return a slider with its value beside it, in hundredths."""
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(low, high)
    slider.setSingleStep(step)
    slider.setDecimals(2)
    slider.findChild(QDoubleSlider).installEventFilter(_StepKeys(slider))
    return slider


class _StepKeys(QObject):
    """Moves a slider by its steps with the keyboard: superqt's take the keys, and do nothing.

    Parameters
    ----------
    slider
        The slider, whose inner one gets the keys.
    """

    def __init__(self, slider: QLabeledDoubleSlider) -> None:
        super().__init__(slider)
        self._slider = slider

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Take the keys that move it."""
        if not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress:
            return False
        steps = next((steps for key, steps in _STEPS.items() if key == event.key()), 0)
        if steps:
            self._slider.setValue(self._slider.value() + steps * self._slider.singleStep())
        return steps != 0


def time_text(seconds: float) -> str:
    """Return a time as people say it: minutes and seconds, hours only where there are any."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def area_text(mm2: float) -> str:
    """Return an area in mm² with two digits that mean something: isolated tumour cells have thousandths."""
    digits = next((count for count, least in ((1, 10), (2, 0.1), (3, 0.01)) if mm2 >= least), 4)
    return f"{mm2:.{digits}f}"


def length_text(mm: float) -> str:
    """Return a length in mm with two digits that mean something."""
    return f"{mm:.2f}" if mm < 10 else f"{mm:.1f}"
