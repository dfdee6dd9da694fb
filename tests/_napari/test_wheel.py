"""The wheel over the panel: it scrolls, and changes a control only once that was clicked."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QApplication, QComboBox, QScrollBar, QWidget

pytestmark = pytest.mark.gui


def turn(control: QWidget) -> None:
    """Turn the wheel by one notch over a control."""
    at = QPointF(control.rect().center())
    event = QWheelEvent(
        at, QPointF(control.mapToGlobal(control.rect().center())), QPoint(0, 0), QPoint(0, -120),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(control, event)


def state(control: QWidget) -> object:
    return control.currentIndex() if isinstance(control, QComboBox) else control.property("value")


def test_the_wheel_changes_a_control_only_once_it_was_clicked(window, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (QAbstractSpinBox, QComboBox, QAbstractSlider)
    controls = [each for kind in kinds for each in window.panel.findChildren(kind) if not isinstance(each, QScrollBar)]
    assert len(controls) > 5
    for control in controls:
        control.clearFocus()
        before = state(control)
        turn(control)
        assert state(control) == before, control
    control = window.panel.scan_part.main.widgets["dense_coefficient"].native
    combo = control if isinstance(control, QComboBox) else control.findChild(QComboBox)
    combo.setCurrentIndex(0)
    # A screen without a window manager gives no window the focus.
    monkeypatch.setattr(combo, "hasFocus", lambda: True)
    turn(combo)
    assert combo.currentIndex() == 1
