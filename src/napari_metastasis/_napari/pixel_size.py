"""Asks for the size of a slide's pixels where the file does not state it."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

__all__ = ["PixelSizeDialog"]

#: What scanners usually have, in µm per pixel.
_USUAL = {"40×": 0.25, "20×": 0.5, "10×": 1.0}
_SMALLEST_MPP = 0.05


class PixelSizeDialog(QDialog):
    """Asks for micrometres per pixel; nothing is assumed.

    Parameters
    ----------
    name
        The slide's file name.
    known
        Micrometres per pixel so far; ``None`` where the file does not say.
    parent
        Qt parent.
    """

    def __init__(self, name: str, *, known: float | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Set pixel size")
        states = "The file does not state it." if known is None else f"It is {known:g} µm so far."
        text = QLabel(
            f"<p>What is the size of a pixel of <b>{name}</b> at full resolution?<br>{states}</p>"
            "<p>You find it in the scanner's settings. The magnification of the objective gives a hint; a wrong size "
            "makes every length and every probability wrong.</p>"
        )
        text.setWordWrap(True)
        self._value = QDoubleSpinBox()
        self._value.setDecimals(4)
        # Below the smallest there is none yet: a habitual Enter must not decide it.
        self._value.setRange(0.0, 20.0)
        self._value.setSpecialValueText("type it, or choose")
        self._value.setSingleStep(0.01)
        self._value.setSuffix(" µm per pixel")
        self._value.setValue(known or 0.0)
        row = QHBoxLayout()
        row.addWidget(self._value, 1)
        for label, value in _USUAL.items():
            button = QPushButton(label)
            button.setToolTip(f"{value:g} µm per pixel, usual for a {label} objective")
            button.setAutoDefault(False)
            button.clicked.connect(lambda _=False, value=value: self._value.setValue(value))
            row.addWidget(button)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
        opens = buttons.button(QDialogButtonBox.StandardButton.Open)
        assert opens is not None
        opens.setEnabled(self.mpp >= _SMALLEST_MPP)
        self._value.valueChanged.connect(lambda value: opens.setEnabled(value >= _SMALLEST_MPP))
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setSpacing(12)
        layout.addWidget(text)
        layout.addLayout(row)
        layout.addWidget(buttons)
        self.setMinimumWidth(420)

    @property
    def mpp(self) -> float:
        """Return micrometres per level-0 pixel."""
        return float(self._value.value())
