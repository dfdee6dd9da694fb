"""Keeps the layers of one slide in step with its session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points
from psygnal import Signal

from napari_metastasis._napari import layers
from napari_metastasis._napari.colors import probability_colormap
from napari_metastasis._napari.compat import draw_now, redraw_image, unrefreshed
from napari_metastasis._napari.label_painter import LabelPainter
from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.session import Activity, SlideSession
    from napari_metastasis.sampling.hard_negatives import HardNegative

__all__ = ["SlideLayers"]

#: Width of the lesions' outlines, in cells.
_CONTOUR = 1


class SlideLayers:
    """The layers that show one session in one viewer.

    Layers are made when there is something to show and go when the slide goes. A layer that the user removes stays away
    until its content is replaced.

    Parameters
    ----------
    viewer
        The viewer.
    session
        What is shown.
    slide
        The slide's own layer, already in the viewer.
    """

    #: The user removed the heatmap.
    probability_removed = Signal()

    def __init__(self, viewer: Viewer, session: SlideSession, slide: Layer) -> None:
        self._viewer = viewer
        self._session = session
        self.slide = slide
        self.tissue: Image | None = None
        self.probability: Image | None = None
        self.refined: Image | None = None
        self.lesions: Labels | None = None
        self.detections: Points | None = None
        self.mined: Points | None = None
        self._painter: LabelPainter | None = None
        self._tinted = False
        viewer.layers.events.removed.connect(self._on_removed)
        session.heatmap_replaced.connect(self._on_heatmap_replaced)
        session.cells_written.connect(self._on_cells_written)
        session.refined_replaced.connect(self._on_refined_replaced)
        session.refined_written.connect(self._on_refined_written)
        session.found_changed.connect(self._on_found_changed)
        session.threshold_changed.connect(self._on_threshold_changed)
        session.tissue_changed.connect(self._on_tissue_changed)
        session.activity_changed.connect(self._on_activity_changed)

    def __iter__(self) -> Iterator[Layer]:
        present = (self.slide, self.tissue, self.probability, self.refined, self.lesions, self.detections, self.mined)
        return iter([layer for layer in present if layer is not None])

    @property
    def up_to_date(self) -> bool:
        """Return whether the lesions are drawn as the session has them."""
        return self._painter is None or self._painter.done

    def __contains__(self, layer: object) -> bool:
        return any(layer is own for own in self)

    def close(self, *, remove: bool) -> None:
        """Stop listening, and take every layer but the slide's own out of the viewer where ``remove`` says so."""
        for signal, slot in (
            (self._session.heatmap_replaced, self._on_heatmap_replaced),
            (self._session.cells_written, self._on_cells_written),
            (self._session.refined_replaced, self._on_refined_replaced),
            (self._session.refined_written, self._on_refined_written),
            (self._session.found_changed, self._on_found_changed),
            (self._session.threshold_changed, self._on_threshold_changed),
            (self._session.tissue_changed, self._on_tissue_changed),
            (self._session.activity_changed, self._on_activity_changed),
        ):
            signal.disconnect(slot, missing_ok=True)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._stop_painting()
        for layer in (self.mined, self.detections, self.lesions, self.refined, self.probability, self.tissue):
            if remove and layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def set_visible(self, visible: bool) -> None:
        """Show or hide everything; what was hidden by hand before stays hidden."""
        for layer in self:
            if visible:
                layer.visible = layer.metadata.pop("was_visible", layer.visible)
            elif layer.visible:
                layer.metadata["was_visible"] = True
                layer.visible = False

    def _name(self, what: str) -> str:
        return f"{what} · {self._session.slide.name}"

    def _add(self, layer: Layer, *, under: Layer | None = None) -> Layer:
        """Add a layer on top of the slide's others, or under one of them, and leave the selection as it was."""
        active = self._viewer.layers.selection.active
        if not self.slide.visible:
            layer.metadata["was_visible"] = layer.visible
            layer.visible = False
        own = [self._viewer.layers.index(present) for present in self if present in self._viewer.layers]
        at = max(own) + 1 if own else len(self._viewer.layers)
        if under is not None and under in self._viewer.layers:
            at = self._viewer.layers.index(under)
        self._viewer.layers.insert(at, layer)
        if active is not None:
            self._viewer.layers.selection.active = active
        return layer

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if layer is self.probability:
            self.probability = None
            self.probability_removed.emit()
        elif layer is self.refined:
            self.refined = None
        elif layer is self.tissue:
            self.tissue = None
        elif layer is self.lesions:
            self._stop_painting()
            self.lesions = None
        elif layer is self.detections:
            self.detections = None
        elif layer is self.mined:
            self.mined = None

    def show_mined(self, places: Sequence[HardNegative]) -> None:
        """Show where patches were mined, in the place of those shown before."""
        if self.mined is not None:
            self._viewer.layers.remove(self.mined)
        layer = layers.mined_layer(places, self._session.slide.mpp, name=self._name("Mined places"))
        self.mined = self._add(layer)

    def _on_heatmap_replaced(self) -> None:
        old, self.probability = self.probability, None
        if old is not None and old in self._viewer.layers:
            self._viewer.layers.remove(old)
        new = layers.probability_layer(self._session, name=self._name("Tumour probability"))
        if old is not None:
            new.visible, new.opacity = old.visible, old.opacity
        self.probability = self._add(new, under=self.refined or self.lesions or self.detections or self.mined)
        self._tint(scanning=self._session.activity.busy)

    def _on_cells_written(self, parts: tuple[Region, ...]) -> None:
        self._redraw(self.probability, parts)

    def _redraw(self, layer: Image | None, parts: tuple[Region, ...]) -> None:
        # Hidden, it is drawn as a whole when it is shown again.
        if layer is not None and layer.visible and not redraw_image(self._viewer, layer, parts):
            draw_now(layer)

    def _on_refined_replaced(self) -> None:
        old, self.refined = self.refined, None
        if old is not None and old in self._viewer.layers:
            self._viewer.layers.remove(old)
        if self._session.refined is None:
            return
        new = layers.refined_layer(self._session, name=self._name("Refined probability"))
        if old is not None:
            new.visible, new.opacity = old.visible, old.opacity
        self.refined = self._add(new, under=self.lesions or self.detections or self.mined)

    def _on_refined_written(self, parts: tuple[Region, ...]) -> None:
        self._redraw(self.refined, parts)

    def prefer_refined(self) -> None:
        """Hide the scan's own map where it is refined all over: one over the other, neither can be read."""
        if self.refined is not None and self.probability is not None and self._session.all_refined:
            if not self.slide.visible:
                self.probability.metadata["was_visible"] = False
            self.probability.visible = False

    def _on_activity_changed(self, activity: Activity) -> None:
        self._tint(scanning=activity.busy)

    def _tint(self, *, scanning: bool) -> None:
        """Show what was scanned while a scan is running, and only tumour afterwards."""
        if self.probability is not None and scanning != self._tinted:
            self.probability.colormap = probability_colormap(scanning=scanning)
        self._tinted = scanning

    def _on_threshold_changed(self, threshold: float) -> None:
        # Both are cheap and follow the slider at once; labels and missing points follow when it rests.
        for layer in (self.probability, self.refined):
            if layer is not None:
                layer.contrast_limits = (threshold, 1.0)
        if self.detections is not None and len(self.detections.data):
            with unrefreshed(self.detections):
                self.detections.shown = self.detections.features["probability"].to_numpy() >= threshold
            draw_now(self.detections)

    def _on_found_changed(self) -> None:
        self._show_lesions()
        self._show_detections()

    def _show_lesions(self) -> None:
        found = self._session.found
        old = self.lesions
        if old is not None and (found is None or old.data.shape != found.labels.shape):
            self._viewer.layers.remove(old)
        if found is None:
            return
        if self.lesions is None:
            layer = layers.lesions_layer(self._session, name=self._name("Lesions"))
            self.lesions = self._add(layer, under=self.detections or self.mined)
        if self._painter is None or self._painter.layer is not self.lesions:
            self._painter = LabelPainter(self.lesions, contour=_CONTOUR)
        self._painter.show(found.labels, found.changed)

    def _stop_painting(self) -> None:
        if self._painter is not None:
            self._painter.stop()
            self._painter = None

    def _show_detections(self) -> None:
        found, layer = self._session.found, self.detections
        if layer is None:
            if found is not None:
                self.detections = self._add(layers.detections_layer(self._session, name=self._name("Detections")))
            return
        points, features = layers.detections_of(found)
        with unrefreshed(layer):
            if not np.array_equal(points, layer.data):
                layer.selected_data = set()
                layer.data = points
                layer.set_view_slice()
                layer.features = features
                layers.paint_rings(layer)
            layer.shown = True
        layer.set_view_slice()  # also where it is hidden: it must not be shown again by the indices of other points
        draw_now(layer)

    def _on_tissue_changed(self) -> None:
        tissue = self._session.tissue
        if tissue is None:
            return
        visible = False
        if self.tissue is not None:
            visible = self.tissue.visible
            self._viewer.layers.remove(self.tissue)
        layer = layers.tissue_layer(tissue, name=self._name("Tissue"))
        layer.visible = visible
        above = (self.probability, self.refined, self.lesions, self.detections, self.mined)
        self.tissue = self._add(layer, under=next((each for each in above if each is not None), None))
