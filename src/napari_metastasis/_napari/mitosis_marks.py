"""The layers of a slide's mitoses: a ring around each, and the outline of the area where they are densest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer, Points, Shapes

from napari_metastasis._napari.compat import draw_now, unrefreshed
from napari_metastasis._napari.drawn_looks import TAKEN_AWAY_RGB
from napari_metastasis._napari.layers import place, points_layer, show_points
from napari_metastasis.geometry import locations_um

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis.annotations import HotSpot

__all__ = ["MITOSIS_COLOR", "MitosisMarks"]

#: Bright, and the hue that H&E has not.
MITOSIS_COLOR = "#1eff8e"
#: The same, and the grey of what no longer counts, as red, green, blue and opacity.
_RING = tuple(value / 255 for value in (*bytes.fromhex(MITOSIS_COLOR[1:]), 255))
_REJECTED = tuple(value / 255 for value in (*TAKEN_AWAY_RGB, 255))
#: Of a ring: a mitotic figure is some 10 µm wide, and shall be seen inside.
_RING_UM = 18.0
_RING_SCREEN_PX = (6, 400)
#: Width of the area's outline on the slide: seen from 1.25x on.
_EDGE_UM = 12.0


class MitosisMarks:
    """Keeps the two layers in step with what counts.

    Parameters
    ----------
    viewer
        The viewer.
    session
        Its mitoses are followed.
    name
        Returns a layer's name.
    add
        Puts a layer into the viewer, over all others of the slide.
    """

    def __init__(
        self, viewer: Viewer, session: SlideSession, *, name: Callable[[str], str], add: Callable[[Layer], Layer]
    ) -> None:
        self._viewer, self._session, self._name, self._add = viewer, session, name, add
        self.points: Points | None = None
        self.spot: Shapes | None = None
        #: What the user took away stays away until another map is shown.
        self._taken_away: set[str] = set()
        state = session.mitoses
        self._slots = (
            (state.found_changed, self._show),
            (state.threshold_changed, self._on_threshold_changed),
            (state.map_changed, self._on_map_changed),
        )
        for signal, slot in self._slots:
            signal.connect(slot)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers that there are."""
        return tuple(one for one in (self.spot, self.points) if one is not None)

    def close(self) -> None:
        """Stop listening; the layers stay."""
        for signal, slot in self._slots:
            signal.disconnect(slot)

    def on_removed(self, layer: Layer) -> None:
        """Stay away, where the user took a layer away, until another map is shown."""
        for what in ("points", "spot"):
            if getattr(self, what) is layer:
                setattr(self, what, None)
                self._taken_away.add(what)

    def _on_map_changed(self) -> None:
        self._taken_away.clear()
        if self._session.mitoses.frame is None:
            self._remove("points")
            self._remove("spot")

    def _on_threshold_changed(self, threshold: float) -> None:
        # Cheap, and at once; counts, and points that come in, follow.
        if self.points is not None and len(self.points.data):
            with unrefreshed(self.points):
                # Those that only people know of have none.
                self.points.shown = ~(self.points.features["probability"].to_numpy() < threshold)
            draw_now(self.points)

    def _show(self) -> None:
        found = self._session.mitoses.found
        if found is None:
            self._remove("points")
            self._remove("spot")
            return
        # Of a scan that goes on the area would jump about.
        spot = found.spot if found.count > 1 else None
        self._show_spot(spot)
        points, features = found.xy[:, ::-1], {"probability": found.probability}
        colors = np.where(found.counts[:, None], _RING, _REJECTED)
        layer = self.points
        if layer is None:
            if "points" not in self._taken_away and len(points):
                self.points = self._make_points(points, features, colors)
                self._add(self.points)
            return
        show_points(layer, points, features, colors)

    def _make_points(self, points: Any, features: dict[str, Any], colors: Any) -> Points:
        mpp = self._session.slide.mpp
        return points_layer(
            points,
            features,
            mpp,
            name=self._name("Mitoses"),
            size=_RING_UM / mpp,
            border_width=0.1,
            border_color=colors,
            canvas_size_limits=_RING_SCREEN_PX,
        )

    def _show_spot(self, spot: HotSpot | None) -> None:
        if spot is None:
            self._remove("spot")
            return
        corners = np.asarray(_corners(spot))
        kind = "ellipse" if spot.shape == "circle" else "rectangle"
        if self.spot is not None:
            if len(self.spot.data) == 1 and np.allclose(self.spot.data[0], corners):
                return
            self.spot.data = [(corners, kind)]
            self.spot.name = self._name(f"Densest {spot.area_mm2:g} mm²")
        elif "spot" not in self._taken_away:
            mpp = self._session.slide.mpp
            layer = Shapes(
                [corners],
                shape_type=kind,
                name=self._name(f"Densest {spot.area_mm2:g} mm²"),
                face_color="transparent",
                edge_color=MITOSIS_COLOR,
                edge_width=_EDGE_UM / mpp,
                blending="translucent_no_depth",
                **place(locations_um(mpp)),
            )
            layer.editable = False
            self.spot = layer
            self._add(layer)

    def _remove(self, what: str) -> None:
        layer = getattr(self, what)
        setattr(self, what, None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)


def _corners(spot: HotSpot) -> list[tuple[float, float]]:
    """Return the corners of the box around an area, as (y, x) in level-0 pixels."""
    x, y, right, bottom = (
        spot.center.x - spot.width / 2,
        spot.center.y - spot.height / 2,
        spot.center.x + spot.width / 2,
        spot.center.y + spot.height / 2,
    )
    return [(y, x), (y, right), (bottom, right), (bottom, x)]
