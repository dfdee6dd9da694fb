"""The "Slide" part: opens the first slide, and says what is known of the one that is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_metastasis._napari.compat import window_of
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import Folded, form_layout, length_text
from napari_metastasis._napari.stained_layer import VIEW_TITLES
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.slide_suffixes import FOLDER_SUFFIXES, SLIDE_SUFFIXES

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis.slides import Slide

__all__ = ["SlideWidget", "choose_address", "choose_folder", "choose_slides"]


def choose_slides(viewer: Viewer, parent: QWidget | None = None) -> None:
    """Ask for slide files and open them."""
    patterns = " ".join(f"*{suffix}" for suffix in sorted(SLIDE_SUFFIXES - FOLDER_SUFFIXES))
    names, _ = QFileDialog.getOpenFileNames(
        parent or window_of(viewer), "Open slide", "", f"Whole-slide images ({patterns});;All files (*)"
    )
    if names:
        Workspace.of(viewer).open(names)


def choose_folder(viewer: Viewer, parent: QWidget | None = None) -> None:
    """Ask for a folder that is a slide, and open it."""
    name = QFileDialog.getExistingDirectory(parent or window_of(viewer), "Open folder: an OME-Zarr, or DICOM files")
    if name:
        Workspace.of(viewer).open([name])


def choose_address(viewer: Viewer, parent: QWidget | None = None) -> None:
    """Ask for the address of a slide, and open it."""
    text, accepted = QInputDialog.getText(
        parent or window_of(viewer), "Open address", "Address of a TIFF or an OME-Zarr (https://…, s3://…)"
    )
    if accepted and text.strip():
        Workspace.of(viewer).open([text.strip()])


def _facts(slide: Slide) -> tuple[str, str, str]:
    """Return format, size and resolution of a slide for a person."""
    width, height = slide.size.width, slide.size.height
    power = f", {slide.objective_power:g}×" if slide.objective_power else ""
    size = f"{width:,} × {height:,} px".replace(",", "\N{THIN SPACE}")
    real = f"{length_text(width * slide.mpp / 1000)} × {length_text(height * slide.mpp / 1000)} mm"
    # Broken between the two, not within one of them.
    size, real = size.replace(" ", "\N{NO-BREAK SPACE}"), real.replace(" ", "\N{NO-BREAK SPACE}")
    source = "set by you" if slide.mpp_supplied else "from file"
    return f"{slide.format}{power}", f"{size}, {real}", f"{slide.mpp:.4g} µm, {source}"


class SlideWidget(Part):
    """Opens slides and describes the current one.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "")
        self._workspace.opening_changed.connect(self._on_opening_changed)

    def _build(self, layout: QVBoxLayout) -> None:
        self.open_button = QPushButton("Open slide…")
        self.open_button.setToolTip("Open a whole-slide image: SVS, NDPI, SCN, MRXS, CZI, DICOM, pyramidal TIFF …")
        self.open_button.clicked.connect(lambda: choose_slides(self._viewer, self))
        self.sample_button = QPushButton("Sample")
        self.sample_button.setToolTip("Open the synthetic sample slide, to try everything out")
        self.sample_button.clicked.connect(lambda _: self._workspace.open_sample())
        row = QHBoxLayout()
        row.addWidget(self.open_button, 1)
        row.addWidget(self.sample_button)
        layout.addLayout(row)
        labels = tuple(QLabel() for _ in range(7))
        self.name, self.kind, self.size, self.resolution, self.tissue, self.scanned, self.colours = labels
        for label in labels:
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            label.setWordWrap(True)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.facts = QWidget()
        form = form_layout()
        self.facts.setLayout(form)
        for title, label in (
            ("Name", self.name),
            ("Format", self.kind),
            ("Size", self.size),
            ("Pixel", self.resolution),
            ("Tissue", self.tissue),
            ("Scanned", self.scanned),
            ("Colours", self.colours),
        ):
            form.addRow(title, label)
        self.show_tissue = QCheckBox("Show the tissue")
        self.show_tissue.setToolTip("Tint the tissue; glass is not scanned")
        self.show_tissue.toggled.connect(self._on_show_tissue)
        self.pixel_button = QPushButton("Set pixel size…")
        self.pixel_button.setFlat(True)
        self.pixel_button.setStyleSheet("QPushButton { text-decoration: underline; background: transparent; }")
        self.pixel_button.setToolTip("Where the file does not state the size of its pixels, or states a wrong one")
        self.pixel_button.clicked.connect(self._ask_pixel_size)
        self.swap = QCheckBox("Swap red and blue")
        self.swap.setToolTip(
            "Where nuclei are brown and eosin is violet: the file holds red and blue in each other's place"
        )
        self.swap.toggled.connect(self._on_swap)
        self.show_veil = QCheckBox("Hatch what was not scanned")
        self.show_veil.setChecked(True)
        self.show_veil.setToolTip("Hatch tissue that was not scanned: it must not look like tissue without findings")
        self.show_veil.toggled.connect(self._on_show_veil)
        self.stains = QComboBox()
        self.stains.addItem("As they are", None)
        for view, title in VIEW_TITLES.items():
            self.stains.addItem(title, view)
        self.stains.setToolTip(
            "Haematoxylin or eosin alone, or both in the colours of a reference slide; scans see the slide as it is"
        )
        self.stains.activated.connect(self._on_stains_chosen)
        form.addRow("Stains", self.stains)
        # Under what is known: beside it, one or the other would be cut in a narrow panel.
        for switch in (self.show_tissue, self.show_veil, self.swap, self.pixel_button):
            form.addRow(switch)
        self.more = Folded("About the slide", self.facts)
        layout.addWidget(self.more)
        self.empty = QLabel("No slide is open. Open one, or drop its file onto the window.")
        self.empty.setWordWrap(True)
        layout.addWidget(self.empty)

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        return (
            (session.tissue_changed, self._show_facts),
            (session.coverage_changed, self._show_facts),
            (session.colour_note_changed, self._show_facts),
        )

    def _show_current(self) -> None:
        if self._controller is not None:
            self._controller.layers.show_veil(self.show_veil.isChecked())
        self._show_facts()

    def _on_current_changed(self, controller: SlideController | None) -> None:
        if self._controller is not None:
            self._controller.stained.changed.disconnect(self._show_stains)
        super()._on_current_changed(controller)
        if controller is not None:
            controller.stained.changed.connect(self._show_stains)
            self._show_stains()

    def _on_stains_chosen(self, _: int) -> None:
        if self._controller is not None:
            self._controller.stained.show(self.stains.currentData())

    def _show_stains(self) -> None:
        assert self._controller is not None
        self.stains.setCurrentIndex(self.stains.findData(self._controller.stained.view))

    def _show_facts(self) -> None:
        controller = self._controller
        self.more.setVisible(controller is not None)
        for widget in (self.empty, self.open_button, self.sample_button):
            widget.setVisible(controller is None)
        if controller is None:
            return
        slide, tissue = controller.session.slide, controller.session.tissue
        labels = (self.name, self.kind, self.size, self.resolution)
        for label, text in zip(labels, (slide.name, *_facts(slide)), strict=True):
            label.setText(text)
            label.setToolTip(text)
        self.tissue.setText("looking for it…" if tissue is None else f"{tissue.fraction:.0%} of the slide")
        coverage = controller.session.coverage
        self.scanned.setText("" if coverage is None or not coverage.percent else f"{coverage.percent} of the tissue")
        self.show_tissue.setEnabled(tissue is not None)
        layer = controller.layers.tissue
        self.show_tissue.blockSignals(True)
        self.show_tissue.setChecked(layer is not None and layer.visible)
        self.show_tissue.blockSignals(False)
        note = controller.session.colour_note
        self.colours.setText("⚠ look exchanged" if note else "")
        self.colours.setToolTip(note)
        self.swap.blockSignals(True)
        self.swap.setChecked(slide.swapped)
        self.swap.blockSignals(False)

    def _on_show_tissue(self, shown: bool) -> None:
        if self._controller is None:
            return
        if self._controller.layers.tissue is None and self._controller.session.tissue is not None:
            # The user removed the layer, and asks for it again.
            self._controller.session.tissue_changed.emit()
        if self._controller.layers.tissue is not None:
            self._controller.layers.tissue.visible = shown

    def _on_show_veil(self, shown: bool) -> None:
        for controller in self._workspace.controllers:
            controller.layers.show_veil(shown)

    def _on_swap(self, swapped: bool) -> None:
        if self._controller is not None:
            slide = self._controller.session.slide
            mpp = slide.mpp if slide.mpp_supplied else None
            self._workspace.reopen(slide.path, mpp, swap_red_blue=swapped)

    def _on_opening_changed(self, count: int) -> None:
        self.open_button.setText("Opening…" if count else "Open slide…")

    def _ask_pixel_size(self) -> None:
        if self._controller is not None:
            slide = self._controller.session.slide
            self._workspace.ask_pixel_size(slide.path, known=slide.mpp, swap_red_blue=slide.swapped)
