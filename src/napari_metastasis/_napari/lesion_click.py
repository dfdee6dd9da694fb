"""A click on a lesion in the slide, or on what a person drew, chooses it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_metastasis._napari.compat import camera_of, um_per_unit
from napari_metastasis.geometry import Point, Region

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_metastasis._napari.session import SlideSession

__all__ = ["LesionClick"]

#: A click may miss by so many screen pixels; and the hand may move by so many before it is a drag.
_REACH_PX, _STILL_PX = 6.0, 4.0


class LesionClick:
    """Chooses the lesion of a session that is clicked; a click beside all of them changes nothing.

    Parameters
    ----------
    viewer
        The viewer.
    session
        Whose lesions are chosen.
    slide
        The slide's layer.
    """

    def __init__(self, viewer: Viewer, session: SlideSession, slide: Layer) -> None:
        self._viewer, self._session, self._slide = viewer, session, slide
        viewer.mouse_drag_callbacks.append(self._on_press)

    def close(self) -> None:
        """Listen no more."""
        self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, _: Viewer, event: Any) -> Generator[None]:
        active = self._viewer.layers.selection.active
        tool = str(getattr(active, "mode", "pan_zoom"))
        if event.button != 1 or event.modifiers or tool != "pan_zoom" or not self._slide.visible:
            return
        began = np.array(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        if np.hypot(*(np.array(event.pos, float) - began)) <= _STILL_PX:
            lesion = self.lesion_at(event.position)
            drawn = self.drawn_at(event.position) if lesion is None else ""
            if lesion is not None or drawn:
                self._session.select(lesion)
            if drawn:
                self._session.corrections.select(drawn)

    def drawn_at(self, position: tuple[float, ...]) -> str:
        """Return the key of what a person drew at a place in the window's coordinates; empty where there is nothing."""
        corrections = self._session.corrections.present
        if not len(corrections) or self._viewer.dims.ndisplay != 2:
            return ""
        import shapely

        units = um_per_unit(self._viewer) / um_per_unit(self._viewer, self._slide)
        y, x = np.asarray(self._slide.world_to_data(np.asarray(position[-2:]) * units))[-2:] + 0.5
        mpp = self._session.slide.mpp
        reach = _REACH_PX / (camera_of(self._viewer).zoom * mpp / float(um_per_unit(self._viewer).max()))
        drawn = [one for one in corrections.of_lesions if one.found is None]
        if not drawn:
            return ""
        shapes, place = np.array([one.shape_px for one in drawn], dtype=object), shapely.Point(x, y)
        # An area is met within it, a point in reach of a hand; of several, the smallest is meant.
        near = np.flatnonzero(shapely.distance(shapes, place) <= np.where(shapely.area(shapes) > 0, 0, reach))
        return min((drawn[at] for at in near.tolist()), key=lambda one: one.shape_px.area).key if len(near) else ""

    def lesion_at(self, position: tuple[float, ...]) -> int | None:
        """Return the lesion at a place in the window's coordinates, or the nearest in reach of a hand."""
        found = self._session.found
        if found is None or self._viewer.dims.ndisplay != 2:
            return None
        units = um_per_unit(self._viewer) / um_per_unit(self._viewer, self._slide)
        y, x = np.asarray(self._slide.world_to_data(np.asarray(position[-2:]) * units))[-2:] + 0.5
        frame = found.frame
        place = frame.cell_at(Point(float(x), float(y)))
        screen_px_per_cell = camera_of(self._viewer).zoom * frame.cell_um / float(um_per_unit(self._viewer).max())
        reach = _REACH_PX / screen_px_per_cell
        near = int(np.ceil(reach)) + 1
        around = Region(round(place.x) - near, round(place.y) - near, 2 * near + 1, 2 * near + 1)
        cells = around.intersection(Region.of(frame.cells))
        if cells.is_empty:
            return None
        rows, columns = np.nonzero(found.labels[cells.slices])
        if not len(rows):
            return None
        # From the edge of each cell's square: 0 within it.
        down, across = np.abs(rows + cells.y - place.y), np.abs(columns + cells.x - place.x)
        away = np.hypot(np.maximum(down - 0.5, 0), np.maximum(across - 0.5, 0))
        nearest = int(np.argmin(away))
        if away[nearest] > reach:
            return None
        return int(found.labels[rows[nearest] + cells.y, columns[nearest] + cells.x])
