"""Lets the panel's lists and switches be read in full, however narrow it is: what they say is broken into lines."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject, QRect, Qt
from qtpy.QtGui import QFontMetrics
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from napari_metastasis._napari.timers import single_shot

__all__ = ["broken_into_lines", "fit_texts"]

#: A list is at least so wide, in pixels.
_LEAST_PX = 120
#: Above and below the lines of a list, together, in pixels.
_ABOVE_PX = 10


def fit_texts(part: QWidget) -> None:
    """Let the lists and switches of a part of the panel shrink with it, and be read all the same."""
    for choices in part.findChildren(QComboBox):
        _FittedList(choices)
    for switch in part.findChildren(QCheckBox):
        # The others have the room that their words take.
        if switch.sizePolicy().horizontalPolicy() == QSizePolicy.Policy.Ignored:
            _FittedSwitch(switch)


def broken_into_lines(text: str, width_px: float, advance: Callable[[str], float]) -> str:
    """Return a text with line breaks between words where a line would be wider.

    Parameters
    ----------
    text
        Without line breaks.
    width_px
        Room for a line, in pixels.
    advance
        Returns the width of a text in pixels.
    """
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and advance(longer) > width_px:
            lines.append(word)
        else:
            lines[-1:] = [longer]
    return "\n".join(lines)


def _advance(metrics: QFontMetrics) -> Callable[[str], float]:
    return lambda text: float(metrics.horizontalAdvance(text))


class _Fitted(QObject):
    """Lets a widget follow its width: soon, for while a layout gives it, another height is not heard.

    Parameters
    ----------
    widget
        The widget.
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._soon = single_shot(self, 0, self._fit)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Follow the width, and the font."""
        if event is not None and event.type() in (QEvent.Type.Resize, QEvent.Type.FontChange, QEvent.Type.Polish):
            self._soon.start()
        return False

    def _fit(self) -> None:
        raise NotImplementedError


class _FittedSwitch(_Fitted):
    """Breaks the words of a switch into lines where they do not fit beside its box."""

    def __init__(self, switch: QCheckBox) -> None:
        self._switch, self._text = switch, switch.text()
        super().__init__(switch)

    def _fit(self) -> None:
        switch, advance = self._switch, _advance(self._switch.fontMetrics())
        beside = switch.sizeHint().width() - max(map(advance, switch.text().split("\n")))
        broken = broken_into_lines(self._text, switch.width() - beside, advance)
        if broken != switch.text():
            switch.setText(broken)


class _FittedList(_Fitted):
    """Shows in lines what is chosen from a list that is narrower; once it is opened, Qt shows the list in full."""

    def __init__(self, choices: QComboBox) -> None:
        self._choices = choices
        super().__init__(choices)
        choices.setMinimumWidth(_LEAST_PX)
        choices.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        choices.currentTextChanged.connect(lambda _: self._soon.start())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Draw what is chosen in lines."""
        if event is not None and event.type() == QEvent.Type.Paint and "\n" in self._lines():
            self._paint()
            return True
        return super().eventFilter(watched, event)

    def _option(self) -> QStyleOptionComboBox:
        option = QStyleOptionComboBox()
        self._choices.initStyleOption(option)
        return option

    def _place(self, option: QStyleOptionComboBox) -> QRect:
        """Return where the choice is written."""
        part, field = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
        return self._choices.style().subControlRect(part, option, field, self._choices)

    def _lines(self) -> str:
        choices = self._choices
        room = self._place(self._option()).width()
        return broken_into_lines(choices.currentText(), room, _advance(choices.fontMetrics()))

    def _fit(self) -> None:
        lines = 1 + self._lines().count("\n")
        least = 0 if lines == 1 else lines * self._choices.fontMetrics().lineSpacing() + _ABOVE_PX
        if least != self._choices.minimumHeight():
            self._choices.setMinimumHeight(least)

    def _paint(self) -> None:
        choices, option = self._choices, self._option()
        option.currentText = ""
        painter = QStylePainter(choices)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.setPen(choices.palette().color(choices.foregroundRole()))
        aligned = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(self._place(option), aligned, self._lines())
        painter.end()
