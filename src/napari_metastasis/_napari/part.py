"""The base of the panel's parts, which show the current slide of their window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_metastasis._napari.fitting import fit_texts
from napari_metastasis._napari.parts import align_fields, part_layout
from napari_metastasis._napari.wheel import guard_from_wheel
from napari_metastasis._napari.workspace import Workspace

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_controller import SlideController

__all__ = ["Part"]


class Part(QWidget):
    """One part of the panel; also a widget of its own.

    It is built once, and follows the window's current slide.

    Parameters
    ----------
    napari_viewer
        The viewer.
    title
        The part's heading; empty for none.
    """

    def __init__(self, napari_viewer: Viewer, title: str) -> None:
        super().__init__()
        self._workspace = Workspace.of(napari_viewer)
        self._viewer = self._workspace.viewer
        self._controller: SlideController | None = None
        self._build(part_layout(self, title))
        align_fields(self)
        fit_texts(self)
        guard_from_wheel(self)
        self._workspace.current_changed.connect(self._on_current_changed)
        self._on_current_changed(self._workspace.current)

    @property
    def _session(self) -> SlideSession | None:
        """Return the session of the current slide; ``None`` where there is none."""
        return None if self._controller is None else self._controller.session

    def _build(self, layout: QVBoxLayout) -> None:
        """Make the part's widgets."""
        raise NotImplementedError

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        """Return the signals of a session that the part listens to, each with its slot."""
        raise NotImplementedError

    def _show_current(self) -> None:
        """Show the current slide, ``self._controller``, or that there is none."""
        raise NotImplementedError

    def _on_current_changed(self, controller: SlideController | None) -> None:
        if self._controller is not None:
            for signal, slot in self._heard(self._controller.session):
                signal.disconnect(slot, missing_ok=True)
        self._controller = controller
        if controller is not None:
            for signal, slot in self._heard(controller.session):
                signal.connect(slot)
        self._show_current()
