"""Keeps layers of results where and as they are: neither moved nor edited by a key or a click."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points
from napari.utils.notifications import show_info

__all__ = ["Pinned"]

#: What decides where a layer lies.
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")
_PAN_ZOOM = "pan_zoom"


def _place_of(layer: Layer) -> dict[str, Any]:
    place = {name: np.array(getattr(layer, name), dtype=float) for name in _PLACE[:-1]}
    return {**place, "units": tuple(str(unit) for unit in layer.units)}


def _is_there(layer: Layer, place: Mapping[str, Any]) -> bool:
    now = _place_of(layer)
    return now["units"] == place["units"] and all(np.allclose(now[name], place[name]) for name in _PLACE[:-1])


class Pinned:
    """Keeps a layer where it was put, for scans, maps, lesions and outlines lie where the slide lies.

    No tool takes such a layer up: with a key of napari's, the mouse would turn the slide instead of moving over it.
    Points and labels are results too: they are not edited, and no point is selected, so that no key deletes one.
    napari makes layers editable again when it shows them in 2-D after 3-D.

    Parameters
    ----------
    layer
        The layer, in its place.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._place = _place_of(layer)
        self._slots = [(getattr(layer.events, name), self._put_back) for name in _PLACE]
        self._slots += [(layer.events.mode, self._lock), (layer.events.help, self._offer_no_tool)]
        if isinstance(layer, (Points, Labels)):
            self._slots.append((layer.events.editable, self._lock))
        if isinstance(layer, Points):
            self._slots += [
                (layer.events.highlight, self._lock),
                (layer.events.data, self._lock),
                (layer.selected_data.events.items_changed, self._lock),
            ]
        for signal, slot in self._slots:
            signal.connect(slot)
        self._lock()
        self._offer_no_tool()

    def release(self) -> None:
        """Let the layer be moved and edited."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self._slots.clear()

    def _put_back(self, _: Any) -> None:
        layer, place = self._layer, self._place
        if _is_there(layer, place):
            return
        for name in _PLACE:
            with getattr(layer.events, name).blocker(self._put_back):
                setattr(layer, name, place[name])
        show_info(f"{layer.name} was moved, and put back: results lie where the slide lies")

    def _lock(self, _: Any = None) -> None:
        layer = self._layer
        if layer.mode != _PAN_ZOOM:
            layer.mode = _PAN_ZOOM
        if isinstance(layer, (Points, Labels)) and layer.editable:
            layer.editable = False
        if isinstance(layer, Points) and layer.selected_data:
            layer.selected_data = set()

    def _offer_no_tool(self, _: Any = None) -> None:
        """Keep napari from naming keys of tools, which do nothing here."""
        if self._layer.help:
            self._layer.help = ""
