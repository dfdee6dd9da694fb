"""The list of models that a scan can be made with, and of files that a person added."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QSizePolicy

from napari_metastasis._napari.slide_work import AvailableModel, AvailableModels, available_models_work
from napari_metastasis._napari.worker import Worker, tell
from napari_metastasis.settings import DEFAULT_MODEL

__all__ = ["ModelChoice"]


class ModelChoice(QComboBox):
    """Lists models, by name or path. It is filled beside the window: torch takes seconds to load."""

    #: The list was filled: AvailableModels.
    filled = Signal(object)
    #: The list could not be filled: one line.
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("The network that looks at the slide")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._known: dict[str, AvailableModel] = {}
        self._files: list[str] = []
        #: The file that was added last, until it is in the list.
        self._added = ""
        self._look: Worker | None = None

    @property
    def name(self) -> str:
        """Return the name or path of the chosen model; empty where there is none."""
        return str(self.currentData() or "")

    @property
    def chosen(self) -> AvailableModel | None:
        """Return what is known of the chosen model; ``None`` where there is none."""
        return self._known.get(self.name)

    @property
    def known(self) -> Mapping[str, AvailableModel]:
        """Return all that can be chosen, by name or path."""
        return self._known

    def choose(self, name: str) -> bool:
        """Choose the model with this name on its card; return whether it is there."""
        found = next((key for key, model in self._known.items() if model.spec.name == name), None)
        if found is not None:
            self.setCurrentIndex(self.findData(found))
        return found is not None

    def fill(self) -> None:
        """Look for models and devices beside the window; a look that is still under way no longer counts."""
        # It knows nothing of what was added since, and might be the last to end.
        if self._look is not None:
            self._look.abandon()
        self.setPlaceholderText("looking for models…")
        worker = self._look = Worker(partial(available_models_work, tuple(self._files)), name="models", parent=self)
        worker.succeeded.connect(self._on_found)
        worker.failed.connect(self._on_failed)
        worker.start()
        self.destroyed.connect(worker.abandon)

    def add_file(self, path: str | Path) -> None:
        """Offer the model whose weights lie at ``path``, and choose it."""
        self._files = [name for name in self._files if name != str(path)] + [str(path)]
        self._added = str(path)
        self.fill()

    def ask_for_file(self) -> None:
        """Ask for weights, and offer their model."""
        name, _ = QFileDialog.getOpenFileName(self, "Model", "", "Weights (*.safetensors)")
        if name:
            self.add_file(name)

    def _on_found(self, found: AvailableModels) -> None:
        # Loaded by now, beside the window.
        from napari_metastasis.models import display_name

        wanted, self._added = self._added or self.name, ""
        self._known = dict(found.models)
        self.blockSignals(True)
        self.clear()
        for name, model in self._known.items():
            spec = model.spec
            self.addItem(display_name(name, shipped=model.ships), name)
            looks = f"looks at {spec.field_px} × {spec.field_px} px"
            about = f"{name}: {spec.architecture}, {spec.mpp:g} µm per pixel, {looks}"
            self.setItemData(self.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(max(0, self.findData(wanted or DEFAULT_MODEL)))
        self.setPlaceholderText("no model: choose a file with “…”")
        self.blockSignals(False)
        self.filled.emit(found)

    def _on_failed(self, error: BaseException) -> None:
        self._files, self._added = [name for name in self._files if name != self._added], ""
        self.failed.emit(tell(error))
