"""All that makes the window a microscope: the bar, and what is laid over the slide that it shows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt

from napari_metastasis._napari.associated_images import AssociatedImages, shown_names
from napari_metastasis._napari.color_bar import ColorBar
from napari_metastasis._napari.compat import camera_of, canvas_widget, grid_of, window_of
from napari_metastasis._napari.cursor import CursorLabel
from napari_metastasis._napari.magnification import (
    MAGNIFICATIONS,
    magnification_of,
    set_magnification,
)
from napari_metastasis._napari.microscope_bar import MicroscopeBar
from napari_metastasis._napari.overview_control import OverviewControl
from napari_metastasis._napari.regions import center_on
from napari_metastasis._napari.rotation import rotate
from napari_metastasis._napari.ruler import RulerTool
from napari_metastasis._napari.slide_marks import SlideMarks
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.view_transform import ViewTransform, view_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.slide_layers import SlideLayers
    from napari_metastasis._napari.window_keys import WindowKeys
    from napari_metastasis._napari.workspace import Workspace
    from napari_metastasis.geometry import Point

__all__ = ["Microscope"]

#: The second is told by Qt from 6.6 on.
_RESIZED = (QEvent.Type.Resize, getattr(QEvent.Type, "DevicePixelRatioChange", QEvent.Type.Resize))


class Microscope(QObject):
    """The bar over the slide, and the ruler, the readout and the keys that go with it, for one window.

    Parameters
    ----------
    workspace
        Whose current slide is shown.

    Attributes
    ----------
    bar
        The bar; further buttons go to its end.
    ruler
        Draws lines on the slide.
    cursor
        Says what lies under the mouse.
    overview
        The whole slide in the corner.
    color_bar
        Says what the colours over the slide mean.
    """

    def __init__(self, workspace: Workspace) -> None:
        viewer = workspace.viewer
        window, canvas = window_of(viewer), canvas_widget(viewer)
        super().__init__(window)
        self._workspace, self._viewer = workspace, viewer
        self._session: SlideSession | None = None
        self._layers: SlideLayers | None = None
        self._closed = False
        self._images: AssociatedImages | None = None
        self._marks = SlideMarks(self)
        self._marks.recalled.connect(self._on_recalled)
        self.bar = MicroscopeBar(window)
        window.addToolBar(Qt.ToolBarArea.TopToolBarArea, self.bar)
        self.ruler = RulerTool(canvas, self._view_and_mpp)
        # After the ruler: it sees the mouse first, also while a line is drawn.
        self.cursor = CursorLabel(canvas, self._view, lambda: self._session)
        self.overview = OverviewControl(canvas, partial(magnification_of, viewer), self._marks.looked_at)
        self.color_bar = ColorBar(canvas)
        self._connect_bar()
        self._bind_keys(workspace.keys)
        # Several events tell of one move of the camera, and mostly while the canvas is being painted.
        self._moved = single_shot(self, 0, self._follow_view)
        self._slots: list[tuple[Any, Callable[..., Any]]] = [
            (camera_of(viewer).events.center, self._on_moved),
            (camera_of(viewer).events.zoom, self._on_moved),
            (camera_of(viewer).events.orientation, self._on_moved),
            (viewer.dims.events.order, self._on_moved),
            (viewer.dims.events.ndisplay, self._on_moved),
            (viewer.layers.events.units, self._on_moved),
            (grid_of(viewer).events.enabled, self._on_moved),
        ]
        for signal, slot in self._slots:
            signal.connect(slot)
        canvas.installEventFilter(self)
        workspace.current_changed.connect(self._on_current_changed)
        self._on_current_changed(workspace.current)

    def close(self) -> None:
        """Leave the window as it was without a microscope."""
        if self._closed:
            return
        self._closed = True
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self._moved.stop()
        self._show(None, None)
        self._marks.close()
        self.ruler.close()
        self.overview.close()

    # -- the slide -----------------------------------------------------------------------------------------------

    def _on_current_changed(self, controller: SlideController | None) -> None:
        if controller is None:
            self._show(None, None)
        else:
            self._show(controller.session, controller.layers)

    def _show(self, session: SlideSession | None, layers: SlideLayers | None) -> None:
        if self._session is not None:
            for signal, slot in self._heard(self._session):
                signal.disconnect(slot, missing_ok=True)
        if self._layers is not None:
            self._layers.marks_changed.disconnect(self._explain, missing_ok=True)
        self._session, self._layers = session, layers
        if layers is not None:
            layers.marks_changed.connect(self._explain)
        # Another slide's label would be taken for this one's.
        self._close_images()
        has_images = False
        if session is not None:
            for signal, slot in self._heard(session):
                signal.connect(slot)
            has_images = bool(shown_names(session.slide))
        self.ruler.show_lines([] if session is None else self._marks.lines(session))
        self.overview.show(session)
        self._explain()
        self.bar.show_slide(has_slide=session is not None, has_images=has_images)
        self._follow_view()

    def forget(self, session: SlideSession) -> None:
        """Keep the marks of a slide that closes until it is opened again."""
        if session is self._session:
            self._show(None, None)
        self._marks.keep(session)

    def _on_recalled(self, session: SlideSession) -> None:
        if session is self._session:
            self.ruler.follow()
            self.overview.follow_looks()

    def _heard(self, session: SlideSession) -> tuple[tuple[Any, Callable[..., Any]], ...]:
        return (
            (session.maps_replaced, self._on_maps_changed),
            (session.cells_written, self._on_maps_changed),
            (session.share_changed, self._on_maps_changed),
            (session.tissue_changed, self._on_maps_changed),
            (session.threshold_changed, self._on_threshold_changed),
        )

    def _on_threshold_changed(self, _: float) -> None:
        self.overview.follow_threshold()
        self._explain()

    def _on_maps_changed(self, *_: object) -> None:
        self.cursor.follow()
        self.overview.follow_maps()
        self._explain()

    def _explain(self) -> None:
        """Show in the legend what is drawn over the slide."""
        self.color_bar.follow(self._session, () if self._layers is None else self._layers.marks)

    # -- the view ------------------------------------------------------------------------------------------------

    def _view(self) -> ViewTransform | None:
        return None if self._session is None else view_transform(self._viewer, self._session.slide)

    def _view_and_mpp(self) -> tuple[ViewTransform, float] | None:
        view = self._view()
        return None if view is None or self._session is None else (view, self._session.slide.mpp)

    def _on_moved(self, *_: object) -> None:
        if not self._closed and not self._moved.isActive():
            self._moved.start()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: ARG002, N802
        """Follow the size of the canvas, and the screen that it lies on."""
        if event is not None and event.type() in _RESIZED:
            self._on_moved()
        return False

    def _follow_view(self) -> None:
        view = self._view()
        self.bar.show_magnification(None if view is None else magnification_of(self._viewer))
        self.ruler.follow()
        self.cursor.follow()
        self.overview.follow_view(view)

    # -- buttons and keys ----------------------------------------------------------------------------------------

    def _connect_bar(self) -> None:
        self.bar.magnification_wanted.connect(self.magnify)
        self.bar.home_wanted.connect(self.show_all)
        self.bar.rotation_wanted.connect(self.turn)
        self.bar.ruler_toggled.connect(self.ruler.take_up)
        self.bar.label_wanted.connect(self._show_images)
        self.bar.overview_toggled.connect(self.overview.switch)
        self.bar.legend_toggled.connect(self.show_color_bar)
        self.overview.widget.wanted.connect(self._go_to)
        self.overview.widget.entered.connect(self.cursor.leave)

    def _bind_keys(self, keys: WindowKeys) -> None:
        for number, value in enumerate(MAGNIFICATIONS, start=1):
            keys.bind(str(number), partial(self.magnify, value))
        keys.bind("Home", self.show_all)
        keys.bind("M", self._toggle_ruler)
        keys.bind("O", self.bar.overview.toggle)
        keys.bind("Escape", self._put_ruler_away)
        keys.bind("Delete", partial(self._remove, self.ruler.remove_last))
        keys.bind("Shift-Delete", partial(self._remove, self.ruler.remove_all))

    def show_color_bar(self, wanted: bool) -> None:
        """Show the legend of the colours wherever there is heat, or hide it."""
        self.color_bar.wanted = wanted
        self._explain()

    def magnify(self, value: float) -> bool:
        """Show a magnification; return whether a slide is shown."""
        if self._view() is None:
            return False
        self._workspace.flight.stop()
        set_magnification(self._viewer, value)
        self._follow_view()
        return True

    def show_all(self) -> bool:
        """Show all of the current slide; return whether there is one."""
        if self._session is None or self._view() is None:
            return False
        self._workspace.home()
        self._follow_view()
        return True

    def _show_images(self) -> None:
        if self._session is not None:
            self._close_images()
            self._images = AssociatedImages(self._session.slide, window_of(self._viewer))
            self._images.finished.connect(self._forget_images)
            self._images.show()

    def _close_images(self) -> None:
        if self._images is not None:
            self._images.close()

    def _forget_images(self) -> None:
        self._images = None

    def _go_to(self, point: Point) -> None:
        if self._session is not None:
            self._workspace.flight.stop()
            camera_of(self._viewer).center = center_on(self._viewer, point, self._session.slide)

    def turn(self, quarters: int) -> None:
        """Turn the view by quarters, clockwise."""
        if self._view() is not None:
            rotate(self._viewer, quarters)
            self._follow_view()

    def _toggle_ruler(self) -> bool:
        if not self.bar.ruler.isEnabled():
            return False
        self.bar.ruler.toggle()
        return True

    def _put_ruler_away(self) -> bool:
        # Escape also stops a scan, which the ruler's user does not mean.
        taken = self.bar.ruler.isChecked()
        self.bar.ruler.setChecked(False)
        return taken

    def _remove(self, remove: Callable[[], None]) -> bool:
        # With the ruler put away, the key deletes what napari's own tools drew.
        if not self.bar.ruler.isChecked():
            return False
        remove()
        return True
