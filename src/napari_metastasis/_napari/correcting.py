"""Draws on the current slide of a window: from what the hand does to a step of the slide's corrections."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QColor

from napari_metastasis._napari.compat import camera_of, canvas_widget
from napari_metastasis._napari.corner_editing import CornerEditing
from napari_metastasis._napari.corner_tool import CornerTool
from napari_metastasis._napari.draw_tool import DrawTool, Tool
from napari_metastasis._napari.drawn_looks import DRAWN
from napari_metastasis._napari.view_transform import ViewTransform, view_transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    import shapely

    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.workspace import Workspace
    from napari_metastasis.annotations import Correction
    from napari_metastasis.annotations.corrections import Label
    from napari_metastasis.annotations.drawing import Drawing, Drawn

__all__ = ["DRAWN_LABELS", "TOOL_KEYS", "Correcting"]

#: What can be drawn: its label, and what a person calls it.
DRAWN_LABELS: tuple[tuple[Label, str], ...] = (("tumour", "Tumour"), ("normal", "Normal"), ("ignore", "Ignore"))
_KNOWN = "A mitosis is known there already: go to it with ◀ and ▶."
TOOL_KEYS = {
    Tool.POLYGON: "P",
    Tool.LASSO: "L",
    Tool.BRUSH: "B",
    Tool.ERASER: "E",
    Tool.SPLIT: "S",
    Tool.JOIN: "J",
    Tool.POINT: "D",
    Tool.CORNERS: "A",
}


class Correcting(QObject):
    """The tools of one window, and what they do to the slide that is shown.

    Parameters
    ----------
    workspace
        Whose current slide is drawn on.

    Attributes
    ----------
    tool
        Takes the mouse.
    corners
        Shows the corners of what is chosen, while that is the tool.
    label
        What is drawn next.
    sets_mitoses
        Whether the point that is set next is a mitosis, and says nothing of tissue.
    """

    #: What is drawn next is another: its label.
    label_changed = Signal(str)
    #: Points that are set are mitoses from now on, or no more.
    sets_mitoses_changed = Signal(bool)
    #: Why a mitosis that was set is not added: one line, or none where it is.
    mitosis_refused = Signal(str)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._workspace = workspace
        self.tool = DrawTool(canvas_widget(workspace.viewer), self._view)
        self.tool.drawn.connect(self._on_drawn)
        self.corners = CornerEditing(self, CornerTool(canvas_widget(workspace.viewer), self._view))
        self.tool.changed.connect(lambda tool: self.corners.take_up(tool is Tool.CORNERS))
        self.label: Label = "tumour"
        self.sets_mitoses = False
        self.tool.changed.connect(lambda _: self._set_mitoses(False))
        camera = camera_of(workspace.viewer)
        self._slots = ((camera.events.center, self._follow), (camera.events.zoom, self._follow))
        for signal, slot in self._slots:
            signal.connect(slot)
        workspace.current_changed.connect(self._on_current_changed)
        workspace.microscope.bar.ruler_toggled.connect(self._on_ruler)
        keys = workspace.keys
        for tool, key in TOOL_KEYS.items():
            keys.bind(key, partial(self.toggle, tool))
        keys.bind("Escape", self._put_away)
        keys.bind("Space", self._hold)
        keys.bind("Return", self.tool.finish)
        keys.bind("Delete", self._remove_key)

    def close(self) -> None:
        """Leave the mouse to napari."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self.tool.close()
        self.corners.close()

    def _view(self) -> ViewTransform | None:
        current = self._workspace.current
        return None if current is None else view_transform(self._workspace.viewer, current.session.slide)

    def _follow(self, _: Any = None) -> None:
        if self.tool.tool is Tool.CORNERS:
            self.corners.tool.follow()
        elif self.tool.tool is not None:
            self.tool.follow()

    def _on_current_changed(self, controller: SlideController | None) -> None:
        self.tool.drop()
        self.corners.follow_session(None if controller is None else controller.session)
        if controller is None:
            self.tool.take_up(None)

    def _on_ruler(self, taken: bool) -> None:
        if taken:
            self.tool.take_up(None)

    # -- what is taken up ----------------------------------------------------------------------------------------

    def toggle(self, tool: Tool) -> bool:
        """Take a tool up, or put it away; return whether there is a slide to draw on."""
        if self._view() is None:
            return False
        self._workspace.microscope.bar.ruler.setChecked(False)
        self.tool.take_up(None if self.tool.tool is tool else tool)
        return True

    def choose(self, label: Label) -> None:
        """Draw something else from now on."""
        self.label = label
        self.tool.color = QColor(*DRAWN[label].rgb)
        self.label_changed.emit(label)

    def set_mitoses(self, wanted: bool) -> None:
        """Set mitoses with the next clicks, or no more."""
        if wanted != self.sets_mitoses and self._view() is not None:
            self._workspace.microscope.bar.ruler.setChecked(False)
            self.tool.take_up(None)
            if wanted:
                self.tool.take_up(Tool.POINT)
            # Behind the change of the tool, which any other ends.
            self._set_mitoses(wanted)

    def _set_mitoses(self, sets: bool) -> None:
        if sets != self.sets_mitoses:
            self.sets_mitoses = sets
            self.sets_mitoses_changed.emit(sets)

    def _put_away(self) -> bool:
        if self.tool.drop() or (self.tool.tool is Tool.CORNERS and self.corners.tool.drop()):
            return True
        taken = self.tool.tool is not None
        self.tool.take_up(None)
        return taken

    def _hold(self) -> Any:
        if self.tool.tool is None:
            return False
        held = self.corners.tool if self.tool.tool is Tool.CORNERS else self.tool
        held.hold(True)
        return partial(held.hold, False)

    def _remove_key(self) -> bool:
        if self.tool.tool is Tool.CORNERS and self.corners.tool.corners is not None:
            # Pressed once too often, it must not take the whole outline away.
            self.corners.tool.remove()
            return True
        current = self._workspace.current
        if current is None or not self.chosen:
            return False
        self.remove()
        return True

    # -- what is done --------------------------------------------------------------------------------------------

    @property
    def reviewer(self) -> str:
        """Return who draws."""
        return self._workspace.reviewer.name

    def _drawing(self) -> Drawing | None:
        """Return the corrections of the slide that is shown, to be changed."""
        current = self._workspace.current
        if current is None:
            return None
        from napari_metastasis.annotations.drawing import Drawing

        corrections = current.session.corrections
        return Drawing(
            corrections.present,
            reviewer=self.reviewer,
            chosen=self.chosen,
            findings_under=self._findings_under,
        )

    @property
    def chosen(self) -> str:
        """Return the key of what is chosen: something drawn, or what was said of the chosen finding; or nothing."""
        current = self._workspace.current
        if current is None:
            return ""
        session = current.session
        if session.corrections.selected or session.selected is None or session.reviewed is None:
            return session.corrections.selected
        about = session.reviewed.review(session.selected).about
        return next((key for key in about if key in session.corrections.present), "")

    def _findings_under(self, shape: shapely.Geometry) -> Sequence[Correction]:
        current = self._workspace.current
        found = None if current is None else current.session.found
        if current is None or found is None:
            return ()
        from napari_metastasis.lesions import Reviewed, unspoken_under

        session = current.session
        return unspoken_under(
            found,
            session.reviewed or Reviewed(),
            shape,
            model=session.model_name,
            reviewer=self.reviewer,
        )

    def _on_drawn(self, tool: Tool, places: npt.NDArray[np.float64]) -> None:
        from napari_metastasis.annotations.editing import area_of_lasso, stroke

        if self.sets_mitoses:
            self._set_mitosis(places[-1])
            return
        drawing = self._drawing()
        if drawing is None:
            return
        if tool in (Tool.POLYGON, Tool.LASSO):
            done = drawing.paint(area_of_lasso(places), self.label)
        elif tool.is_round:
            area = stroke(places, self.tool.radius_of_slide_px)
            done = drawing.erase(area) if tool is Tool.ERASER else drawing.paint(area, self.label)
        elif tool is Tool.SPLIT:
            done = drawing.cut(places)
        elif tool is Tool.JOIN:
            done = drawing.join(places, self.label)
        else:
            x, y = places[-1].tolist()
            done = drawing.drop(x, y, self.label)
        self._do(done)

    def _set_mitosis(self, place: npt.NDArray[np.float64]) -> None:
        current = self._workspace.current
        if current is not None:
            from napari_metastasis.annotations import add_points
            from napari_metastasis.lesions import new_mitoses

            corrections, found = current.session.corrections, current.session.mitoses.found
            more, (key,) = add_points(corrections.present, place, reviewer=self.reviewer)
            is_known = found is not None and not new_mitoses(found, corrections.present, [more[key]])
            self.mitosis_refused.emit(_KNOWN if is_known else "")
            if not is_known:
                corrections.do("Add a mitosis", more)

    def _do(self, done: Drawn) -> None:
        current = self._workspace.current
        if current is None or not done.what:
            return
        corrections = current.session.corrections
        # Before: what was chosen may be gone.
        corrections.do(done.what, done.corrections)
        current.session.select(None)
        corrections.select(done.key)

    def reshape(self, one: Correction, area: shapely.Geometry, what: str) -> None:
        """Give something another outline, in one step: a correction, or a finding that is confirmed by it."""
        drawing = self._drawing()
        if drawing is not None:
            self._do(drawing.reshape(one, area, what))

    def fill(self) -> None:
        """Fill the holes of the chosen correction."""
        drawing = self._drawing()
        if drawing is not None:
            self._do(drawing.fill())

    def remove(self) -> None:
        """Take the chosen correction away."""
        drawing = self._drawing()
        if drawing is not None:
            self._do(drawing.remove())
