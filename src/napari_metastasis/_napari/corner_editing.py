"""Which outline shows its corners, and what becomes of it once one of them was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QColor

from napari_metastasis._napari.corner_tool import CornerTool
from napari_metastasis._napari.drawn_looks import DRAWN
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import explain
from napari_metastasis.errors import AnnotationError

if TYPE_CHECKING:
    from napari_metastasis._napari.correcting import Correcting
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import Correction
    from napari_metastasis.annotations.corners import Corners
    from napari_metastasis.lesions import Findings

__all__ = ["CornerEditing"]

_NONE = "Click an outline: its corners are shown."
_POINT = "A point has no corners. Click an outline."
_MENDED = "The outline crossed itself: it is taken apart where it does."


class CornerEditing(QObject):
    """Shows the corners of what is chosen on the current slide while it is taken up.

    Parameters
    ----------
    correcting
        What the tools of the window draw on.
    tool
        Takes the mouse.
    """

    #: What a person has to know now: one line; empty where there is nothing.
    said = Signal(str)

    def __init__(self, correcting: Correcting, tool: CornerTool) -> None:
        super().__init__(correcting)
        self._correcting, self.tool = correcting, tool
        self._session: SlideSession | None = None
        self._taken = False
        self._outlined: Correction | None = None
        #: The finding that was looked at last, as a correction that confirms it, and of which findings and id.
        self._fresh: tuple[Findings, int, Correction] | None = None
        self._line = ""
        # What is chosen, and what is said of it, change one after the other.
        self._soon = single_shot(self, 0, self._look)
        tool.reshaped.connect(self._on_reshaped)
        tool.refused.connect(self._refuse)

    @property
    def line(self) -> str:
        """Return what a person has to know now."""
        return self._line

    def take_up(self, taken: bool) -> None:
        """Show corners, or none."""
        self._taken = taken
        self._say("")
        self._look()

    def follow_session(self, session: SlideSession | None) -> None:
        """Work on another slide; ``None`` for none."""
        for signal in self._heard(self._session):
            signal.disconnect(self._look_soon, missing_ok=True)
        self._session, self._fresh = session, None
        for signal in self._heard(session):
            signal.connect(self._look_soon)
        self._look()

    @staticmethod
    def _heard(session: SlideSession | None) -> tuple[Any, ...]:
        if session is None:
            return ()
        said = session.corrections
        return said.changed, said.selected_changed, session.selected_changed, session.reviewed_changed

    def close(self) -> None:
        """Listen no more, and show nothing."""
        self._soon.stop()
        self.follow_session(None)
        self.tool.close()

    def _look_soon(self, *_: object) -> None:
        if self._taken:
            self._soon.start()

    def _look(self) -> None:
        """Show the corners of what is chosen now."""
        from napari_metastasis.annotations.corners import Corners

        before, self._outlined = self._outlined, self._chosen() if self._taken else None
        one = self._outlined
        if one is None:
            self.tool.show_outline(None, QColor())
        elif before is None or before.shape_px is not one.shape_px or self.tool.corners is None:
            self.tool.show_outline(Corners.of(one.shape_px), QColor(*DRAWN[one.label].rgb))
        if before is None or one is None or before.key != one.key:
            self._say("")

    def _chosen(self) -> Correction | None:
        """Return what is chosen, as a correction: where nobody has spoken of a finding, as one that confirms it."""
        import shapely

        session = self._session
        if session is None:
            return None
        one = session.corrections.present.by_key.get(self._correcting.chosen)
        if one is None and session.selected is not None and session.found is not None:
            held = self._fresh
            if held is None or held[0] is not session.found or held[1] != session.selected:
                from napari_metastasis.lesions import confirmed

                reviewer = self._correcting.reviewer
                fresh = confirmed(session.found, session.selected, model=session.model_name, reviewer=reviewer)
                held = self._fresh = session.found, session.selected, fresh
            one = held[2]
        if one is None or one.shape_px.is_empty or isinstance(one.shape_px, shapely.Point):
            return None
        return one

    def _on_reshaped(self, what: str, corners: Corners) -> None:
        from napari_metastasis.annotations.corners import reshaped

        one = self._outlined
        if one is None:
            return
        try:
            found = reshaped(one.shape_px, corners)
        except AnnotationError as error:
            self._refuse(error)
            return
        self._correcting.reshape(one, found.area, what)
        self._look()
        self._say(_MENDED if found.is_mended else "")

    def _refuse(self, error: Exception) -> None:
        self._say(explain(error))

    def _say(self, line: str) -> None:
        if not line and self._taken and self._outlined is None:
            line = _NONE
        self._line = line
        self.said.emit(line)
