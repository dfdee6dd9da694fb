"""Under "Advanced": the images that a model learnt from before, where they are at hand."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_metastasis._napari.parts import Folded

__all__ = ["EarlierPatches"]


class EarlierPatches(Folded):
    """Chooses a file of patches.

    Attributes
    ----------
    path
        The file; ``None`` where none was chosen.
    """

    def __init__(self) -> None:
        inside = QWidget()
        super().__init__("Advanced", inside)
        self.path: Path | None = None
        label = QLabel("Images it learnt from before")
        label.setWordWrap(True)
        self.button = QPushButton()
        self.button.clicked.connect(lambda _: self.ask())
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (label, self.button):
            widget.setToolTip(
                "A file of labelled patches (zip or HDF5). With it the whole model learns, not only its last layers, "
                "where time is left; an hour is a good choice then"
            )
            layout.addWidget(widget)
        self.choose("")

    def ask(self) -> None:
        """Ask for a file; a dialog that is cancelled chooses none."""
        self.choose(QFileDialog.getOpenFileName(self, self.button.toolTip(), "", "Patches (*.zip *.h5 *.hdf5)")[0])

    def choose(self, name: str) -> None:
        """Choose a file by its name; an empty one chooses none."""
        self.path = Path(name) if name else None
        self.button.setText(self.path.name if self.path is not None else "none: choose…")
