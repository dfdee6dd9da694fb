"""Asks before a window closes whose corrections no disk takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMessageBox, QWidget

if TYPE_CHECKING:
    from napari_metastasis._napari.slide_controller import SlideController

__all__ = ["UnsavedDialog", "unsaved"]


def unsaved(controllers: Sequence[SlideController]) -> tuple[SlideController, ...]:
    """Return the slides of which something was said that the disk does not take."""
    return tuple(one for one in controllers if one.corrections.failed)


class UnsavedDialog(QMessageBox):
    """Says what is not saved, and closes only where a person wants that.

    Parameters
    ----------
    slides
        Whose corrections are not saved.
    parent
        The window.
    """

    #: It is to be closed all the same.
    close_wanted = Signal()

    def __init__(self, slides: Sequence[SlideController], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Not saved")
        names = ", ".join(one.session.slide.name for one in slides)
        self.setText(f"What you said of {names} is not saved. Make room, or allow writing, and it is saved at once.")
        self.setInformativeText(
            f"{slides[0].session.corrections.saving.text}\nWhere you close now, it is kept in your own folder on this "
            "machine, and is back when the slide is opened again here."
        )
        self.stay_button = self.addButton("Stay", QMessageBox.ButtonRole.RejectRole)
        self.close_button = self.addButton("Close", QMessageBox.ButtonRole.DestructiveRole)
        self.setDefaultButton(self.stay_button)
        self.close_button.clicked.connect(self.close_wanted)
        self.finished.connect(self.deleteLater)
