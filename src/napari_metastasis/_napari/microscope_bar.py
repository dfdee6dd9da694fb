"""The bar over the slide: magnifications, the whole slide, quarter turns, and what is laid over the slide."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QToolBar, QToolButton, QWidget

from napari_metastasis._napari.magnification import MAGNIFICATIONS, is_at, magnification_text

__all__ = ["BAR_NAME", "KEY_TEXTS", "MicroscopeBar"]

#: Qt's name of the bar.
BAR_NAME = "napari-metastasis-microscope"
#: The keys, as the tooltips name them; those of magnifications are 1, 2, …
KEY_TEXTS = {"home": "Home", "ruler": "M", "overview": "O"}

#: Follows napari's own text colour, so that it reads in every theme.
_STYLE = """
QToolBar { border: none; padding: 2px 4px; spacing: 2px; }
QToolButton { padding: 3px 7px; border-radius: 3px; min-width: 18px; background: transparent; }
QToolButton:hover { background: rgba(128, 128, 128, 70); }
QToolButton:checked { background: #1f77d0; color: white; }
QToolButton:disabled { color: rgba(128, 128, 128, 140); }
QLabel { padding: 0 6px; }
"""
#: Wide enough for the longest magnification, so that the buttons do not move.
_WIDEST = "0.25×"


class MicroscopeBar(QToolBar):
    """Shows buttons and says which was clicked; it does nothing to the view itself."""

    #: A magnification is wanted.
    magnification_wanted = Signal(float)
    #: All of the slide is wanted.
    home_wanted = Signal()
    #: A turn of the view is wanted, in quarters clockwise.
    rotation_wanted = Signal(int)
    #: Label and macro image are wanted.
    label_wanted = Signal()
    #: The ruler was taken up, or put away.
    ruler_toggled = Signal(bool)
    #: The overview was switched on or off.
    overview_toggled = Signal(bool)
    #: The legend was switched on or off.
    legend_toggled = Signal(bool)

    def __init__(self, parent: QWidget) -> None:
        super().__init__("Microscope", parent)
        self.setObjectName(BAR_NAME)
        self.setMovable(False)
        self.setStyleSheet(_STYLE)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        #: By magnification.
        self.magnifications: dict[float, QToolButton] = {}
        for number, value in enumerate(MAGNIFICATIONS, 1):
            button = self._button(f"{value:g}×", f"Show {value:g}× ({number})", self._wants(value), checkable=True)
            self.magnifications[value] = button
        self.shown = QLabel("")
        self.shown.setObjectName("magnification")
        self.shown.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.shown.setToolTip("The magnification that is shown: at 40×, a pixel of the screen shows 0.25 µm")
        font = self.shown.font()
        font.setBold(True)
        self.shown.setFont(font)
        self.shown.setMinimumWidth(self.shown.fontMetrics().horizontalAdvance(_WIDEST) + 20)
        self.addWidget(self.shown)
        self.addSeparator()
        self.home = self._button("⤢ Whole slide", f"Show all of the slide ({KEY_TEXTS['home']})", self.home_wanted.emit)
        self.left = self._button("↺", "Turn the view by 90° to the left", lambda: self.rotation_wanted.emit(-1))
        self.right = self._button("↻", "Turn the view by 90° to the right", lambda: self.rotation_wanted.emit(1))
        self.addSeparator()
        self.ruler = self._button(
            "Ruler",
            f"Measure: drag on the slide ({KEY_TEXTS['ruler']}). Lines stay until their × is clicked;\n"
            "Delete takes the last one away, Shift+Delete all, Escape puts the ruler away",
            None,
            checkable=True,
        )
        self.ruler.toggled.connect(self.ruler_toggled)
        self.label = self._button("Label", "Show the slide's label and its macro image", self.label_wanted.emit)
        self.overview = self._button(
            "Overview", f"Show the whole slide in the corner ({KEY_TEXTS['overview']})", None, checkable=True
        )
        self.overview.setChecked(True)
        self.overview.toggled.connect(self.overview_toggled)
        self.legend = self._button("Legend", "Show what the colours over the slide mean", None, checkable=True)
        self.legend.setChecked(True)
        self.legend.toggled.connect(self.legend_toggled)
        self.show_slide(has_slide=False, has_images=False)

    def show_magnification(self, magnification: float | None) -> None:
        """Show the magnification of the view, and its button pressed; ``None`` where no slide is shown flat."""
        self.shown.setText("–" if magnification is None else magnification_text(magnification))
        for value, button in self.magnifications.items():
            button.setChecked(magnification is not None and is_at(magnification, value))

    def show_slide(self, *, has_slide: bool, has_images: bool) -> None:
        """Offer what can be done with the current slide.

        Parameters
        ----------
        has_slide
            Whether there is one.
        has_images
            Whether it has a label or a macro image.
        """
        for button in (*self.magnifications.values(), self.home, self.left, self.right, self.ruler):
            button.setEnabled(has_slide)
        self.label.setEnabled(has_images)
        why = "Show the slide's label and its macro image"
        self.label.setToolTip(why if has_images or not has_slide else "This slide's file has no label and no macro")
        if not has_slide:
            self.ruler.setChecked(False)

    def _wants(self, value: float) -> Callable[[], None]:
        return lambda: self.magnification_wanted.emit(value)

    def _button(self, text: str, tip: str, act: Callable[[], None] | None, *, checkable: bool = False) -> QToolButton:
        button = QToolButton(self)
        button.setText(text)
        button.setToolTip(tip)
        button.setCheckable(checkable)
        button.setAutoRaise(True)
        # The keys stay with the slide.
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        if act is not None:
            button.clicked.connect(lambda _: act())
        self.addWidget(button)
        return button
