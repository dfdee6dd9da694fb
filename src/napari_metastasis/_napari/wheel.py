"""The mouse wheel changes a control only once it was clicked: a hand that scrolls past must not change a setting."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar, QWidget

__all__ = ["guard_from_wheel"]

_CONTROLS = (QAbstractSpinBox, QComboBox, QAbstractSlider)


class _WheelGuard(QObject):
    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Hand the wheel on to what lies around a control that does not have the focus."""
        if event is None or event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget) or watched.hasFocus():
            return False
        event.ignore()
        return True


def guard_from_wheel(part: QWidget) -> None:
    """Guard every control of a part: spin boxes, lists and sliders, but no scroll bar."""
    guard = _WheelGuard(part)
    for kind in _CONTROLS:
        for control in part.findChildren(kind):
            if not isinstance(control, QScrollBar):
                # Else the wheel itself would give it the focus.
                control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                control.installEventFilter(guard)
