"""Keeps the layers of one slide in step with its session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from napari.layers import Image, Labels, Layer, Points
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_metastasis._napari import layers
from napari_metastasis._napari.colors import map_colormap, shown_limits
from napari_metastasis._napari.compat import draw_now, redraw_image, smooth_to_gaps, unrefreshed
from napari_metastasis._napari.correction_painter import CorrectionPainter
from napari_metastasis._napari.label_painter import LabelPainter
from napari_metastasis._napari.lesion_click import LesionClick
from napari_metastasis._napari.mitosis_marks import MitosisMarks
from napari_metastasis._napari.outline_painter import OutlinePainter
from napari_metastasis._napari.overlay import OverlayStrength
from napari_metastasis._napari.pinned import Pinned
from napari_metastasis._napari.session import METADATA_KEY
from napari_metastasis._napari.user_shapes import OWN_KEY, is_free, shapes_of, take_shapes
from napari_metastasis._napari.veil import Veil
from napari_metastasis.geometry import Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.session import Activity, SlideSession
    from napari_metastasis.sampling.hard_negatives import HardNegative
    from napari_metastasis.scanning import MapValues

__all__ = ["SlideLayers"]

#: What lies over the tissue.
_Seen: TypeAlias = "Layer | OutlinePainter | CorrectionPainter"
#: Width of the lesions' outlines, in cells.
_CONTOUR = 1
#: In the metadata of a layer that is hidden with its slide: whether it is shown again with that.
_WAS_VISIBLE = "was_visible"


def _is_wanted(layer: Layer) -> bool:
    """Return whether a layer is seen when its slide is: it may be hidden with the slide just now."""
    return bool(layer.metadata.get(_WAS_VISIBLE, layer.visible))


class SlideLayers:
    """The layers that show one session in one viewer.

    Layers are made when there is something to show, and go with the slide. A layer that the user removes stays away
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
    heatmap_removed = Signal()
    #: The user removed the layer of the slide's dyes.
    stained_removed = Signal()
    #: The user removed the map of mitoses.
    mitosis_map_removed = Signal()
    #: Marks came into sight or went out of it.
    marks_changed = Signal()

    def __init__(self, viewer: Viewer, session: SlideSession, slide: Layer) -> None:
        self._viewer = viewer
        self._session = session
        self.slide = slide
        self.stained: Image | None = None
        self.tissue: Image | None = None
        self.maps: dict[str, Image] = {}
        self.mitosis_map: Image | None = None
        self.change: Image | None = None
        self.lesions: Labels | None = None
        self.detections: Points | None = None
        self.mined: Points | None = None
        self._painter: LabelPainter | None = None
        self._tinted = False
        self._hidden_overlay: list[_Seen] = []
        self._told: tuple[str, ...] = ()
        self._read_map = session.read_map
        self._shown = True
        self.outlines = OutlinePainter(viewer, session, slide)
        self.drawn = CorrectionPainter(viewer, session, slide)
        self._click = LesionClick(viewer, session, slide)
        self._strength = OverlayStrength.of(viewer)
        self._slots = (
            (session.maps_replaced, self._on_maps_replaced),
            (session.cells_written, self._on_cells_written),
            (session.found_changed, self._on_found_changed),
            (session.threshold_changed, self._on_threshold_changed),
            (session.mitoses.found_changed, self._on_visible_changed),
            (session.tissue_changed, self._on_tissue_changed),
            (session.activity_changed, self._on_activity_changed),
            (session.reviewed_changed, self._on_said_changed),
            (session.corrections.changed, self._on_said_changed),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.layers.events.inserted, self._on_inserted),
            (self._strength.changed, self._on_strength_changed),
        )
        self._pinned = {slide: Pinned(slide)}
        name = partial(self._name, "Not scanned")
        self.mitoses = MitosisMarks(viewer, session, name=self._name, add=self._add)
        self._veil = Veil(viewer, session, name=name, add=self._add_under_maps, is_wanted=_is_wanted)
        for signal, slot in self._slots:
            signal.connect(slot)

    def __iter__(self) -> Iterator[Layer]:
        maps = (*self.maps.values(), self.mitosis_map, self.change)
        present = (self.slide, self.stained, self.tissue, self.veil, *maps, self.lesions, self.detections, self.mined)
        return iter([*(layer for layer in present if layer is not None), *self.mitoses.layers])

    def __contains__(self, layer: object) -> bool:
        return any(layer is own for own in self)

    def close(self, *, remove: bool) -> None:
        """Stop listening, and take every layer but the slide's own out of the viewer where ``remove`` says so."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self._veil.close()
        self.mitoses.close()
        for pinned in self._pinned.values():
            pinned.release()
        self._pinned.clear()
        self._stop_painting()
        if remove:
            # What the user drew is not lost: it waits, unseen, until its slide opens again.
            self._hide(shapes_of(self._viewer, self._session.slide))
        self.outlines.close()
        self.drawn.close()
        self._click.close()
        # A copy of the slide's layer, or of its dyes, shows the same file, which closes.
        copies = [layer for layer in self._viewer.layers if layer.metadata.get(METADATA_KEY) is self._session]
        for layer in reversed([layer for layer in (*self, *copies) if layer is not self.slide]):
            if remove and layer in self._viewer.layers:
                if layer in self._viewer.layers.selection:
                    # napari may be removing all that is selected, and fails where another does it first.
                    QTimer.singleShot(0, partial(self._remove, layer))
                else:
                    self._remove(layer)

    def _remove(self, layer: Layer) -> None:
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def keep_back(self) -> None:
        """Hide a slide that was not shown yet, to be seen once it is."""
        self.slide.metadata[_WAS_VISIBLE] = True
        self.slide.visible = False
        self._shown = False
        self._show_outlines()

    def set_visible(self, visible: bool) -> None:
        """Show or hide all layers, with the shapes drawn over them; those that the user hid stay hidden."""
        self._shown = visible
        drawn = (*self, *shapes_of(self._viewer, self._session.slide))
        if visible:
            for layer in drawn:
                layer.visible = layer.metadata.pop(_WAS_VISIBLE, layer.visible)
        else:
            self._hide(drawn)
        self._show_outlines()

    @staticmethod
    def _hide(drawn: Iterable[Layer]) -> None:
        for layer in drawn:
            if layer.visible:
                layer.metadata[_WAS_VISIBLE] = True
                layer.visible = False

    def _show_outlines(self) -> None:
        for painter in (self.outlines, self.drawn):
            painter.visible = self._shown and painter not in self._hidden_overlay

    @property
    def strength(self) -> float:
        """Return how strongly maps lie over the tissue, 0 to 1, in this window; outlines are always opaque."""
        return self._strength.value

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength.value = strength

    def _on_strength_changed(self, strength: float) -> None:
        for layer in (*self.maps.values(), self.mitosis_map, self.change):
            if layer is not None:
                layer.opacity = strength

    def _seen(self) -> list[_Seen]:
        """Return what is seen over the tissue."""
        maps = (self.veil, *self.maps.values(), self.mitosis_map, self.change)
        over = (*maps, self.lesions, self.detections, self.mined, *self.mitoses.layers)
        seen: list[_Seen] = [layer for layer in over if layer is not None and layer.visible]
        if self._session.found is not None and self.outlines.visible:
            seen.append(self.outlines)
        if len(self._session.corrections.present) and self.drawn.visible:
            seen.append(self.drawn)
        return seen

    @property
    def overlay_shown(self) -> bool:
        """Return whether anything lies over the tissue."""
        return bool(self._seen())

    def show_overlay(self, shown: bool) -> None:
        """Hide all that lies over the tissue; or show it again, without what was hidden before."""
        if shown:
            hidden, self._hidden_overlay = self._hidden_overlay, []
            for layer in self:
                if layer in hidden:
                    layer.visible = True
        elif seen := self._seen():
            self._hidden_overlay = seen
            for one in seen:
                if isinstance(one, Layer):
                    one.visible = False
        self._show_outlines()

    @property
    def veil(self) -> Image | None:
        """Return the layer that marks tissue that was not scanned; ``None`` where there is none to mark."""
        return self._veil.layer

    def show_veil(self, shown: bool) -> None:
        """Mark tissue that was not scanned, or do not; it is marked at first."""
        self._veil.show(shown)
        layer = self.veil
        if layer is not None and not self.slide.visible:
            layer.metadata[_WAS_VISIBLE] = shown
            layer.visible = False

    def _name(self, what: str) -> str:
        """Return the name of a layer: short, with the slide's where another slide has a layer of that name."""
        taken = {layer.name for layer in self._viewer.layers if layer not in self}
        name = layers.layer_name(what)
        return name if name not in taken else layers.layer_name(what, self._session.slide.name)

    def _add(self, layer: Layer, *, under: Layer | None = None) -> Layer:
        """Add a layer on top of the slide's others, or under one of them, and leave the selection as it was."""
        active = self._viewer.layers.selection.active
        layer.metadata[OWN_KEY] = True
        if not self.slide.visible:
            layer.metadata[_WAS_VISIBLE] = layer.visible
            layer.visible = False
        own = [self._viewer.layers.index(present) for present in self if present in self._viewer.layers]
        at = max(own) + 1 if own else len(self._viewer.layers)
        if under is not None and under in self._viewer.layers:
            at = self._viewer.layers.index(under)
        self._viewer.layers.insert(at, layer)
        self._pinned[layer] = Pinned(layer)
        layer.events.visible.connect(self._on_visible_changed)
        self.marks_changed.emit()
        if active is not None:
            self._viewer.layers.selection.active = active
        return layer

    def _on_inserted(self, event: Any) -> None:
        """Let shapes that are added over this slide belong to it."""
        if self._shown and is_free(event.value):
            take_shapes(self._viewer, event.value, self._session.slide)

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if layer in self._pinned:
            self._pinned.pop(layer).release()
            layer.events.visible.disconnect(self._on_visible_changed)
        shown = next((name for name, own in self.maps.items() if own is layer), None)
        if shown is not None:
            was_heatmap = layer is self.heatmap
            del self.maps[shown]
            if was_heatmap:
                self.heatmap_removed.emit()
        elif layer is self.lesions:
            self._stop_painting()
        elif layer is self.stained:
            self.stained = None
            self.stained_removed.emit()
        elif layer is self.mitosis_map:
            self.mitosis_map = None
            self.mitosis_map_removed.emit()
        self._veil.on_removed(layer)
        self.mitoses.on_removed(layer)
        for name in ("tissue", "change", "lesions", "detections", "mined"):
            if getattr(self, name) is layer:
                setattr(self, name, None)
        self.marks_changed.emit()

    def _on_visible_changed(self, *_: object) -> None:
        self.marks_changed.emit()

    @property
    def marks(self) -> tuple[str, ...]:
        """Return what is seen over the tissue beside heat and outlines.

        That is "veil", "change", and of points "detections", "mined" and "mitoses"; of what a person said, "rejected",
        and the labels of what was drawn.
        """
        points = {"detections": self.detections, "mined": self.mined, "mitoses": self.mitoses.points}
        seen = [name for name, layer in points.items() if layer is not None and layer.visible and layer.shown.any()]
        if self.change is not None and self.change.visible:
            seen.insert(0, "change")
        session = self._session
        if session.reviewed is not None and session.reviewed.has_taken_away and self.outlines.visible:
            seen.append("rejected")
        if self.drawn.visible:
            seen += [label for label in ("tumour", "normal", "ignore") if label in session.corrections.present.drawn]
        return ("veil", *seen) if self.veil is not None and self.veil.visible else tuple(seen)

    def _on_said_changed(self) -> None:
        said = self.marks
        if said != self._told:
            self._told = said
            self.marks_changed.emit()

    def show_mined(self, mined: Sequence[HardNegative]) -> None:
        """Show where patches were mined, instead of what was shown before."""
        if self.mined is not None:
            self._viewer.layers.remove(self.mined)
        layer = layers.mined_layer(mined, self._session.slide.mpp, name=self._name("Mined places"))
        self.mined = self._add(layer)
        self.marks_changed.emit()

    def show_change(self, change: MapValues | None) -> None:
        """Show what changed between two results in place of the maps of one; ``None`` shows the maps again."""
        before, self.change = self.change, None
        if before is not None and before in self._viewer.layers:
            self._viewer.layers.remove(before)
        if change is not None:
            layer = layers.change_layer(change, name=self._name(change.kind.title), opacity=self.strength)
            under = next((one for one in (self.lesions, self.detections, self.mined) if one is not None), None)
            self.change = self._add(layer, under=under)
            smooth_to_gaps(self._viewer, layer)
            for one in self.maps.values():
                self._show(one, shown=False)
        elif before is not None:
            for one in self.maps.values():
                self._show(one, shown=True)
            self.prefer_latest()
        self.marks_changed.emit()

    def show_stained(self, levels: Sequence[Any], what: str = "") -> None:
        """Show the slide's dyes over the slide and under all else, instead of what was shown before.

        Parameters
        ----------
        levels
            The slide's levels as the dyes show them; none of them shows the slide as it is.
        what
            What they show.
        """
        shown = self.stained
        if not levels:
            self.stained = None
            if shown is not None and shown in self._viewer.layers:
                self._viewer.layers.remove(shown)
        elif shown is not None:
            # A new layer would cost half a second.
            shown.data, shown.name = list(levels), self._name(what)
        else:
            over = [layer for layer in self if layer is not self.slide and layer in self._viewer.layers]
            lowest = min(over, key=self._viewer.layers.index, default=None)
            self.stained = layers.stained_layer(levels, self._session, name=self._name(what))
            self._add(self.stained, under=lowest)

    def show_mitosis_map(self, layer: Image | None) -> None:
        """Add the map of mitoses over the other maps and under all marks, instead of the one before; or only that."""
        before, self.mitosis_map = self.mitosis_map, None
        if before is not None:
            self._remove(before)
        if layer is not None:
            layer.name, layer.opacity = self._name("Mitosis probability"), self.strength
            above = (self.lesions, self.detections, self.mined, *self.mitoses.layers)
            self.mitosis_map = layer
            self._add(layer, under=next((one for one in above if one is not None), None))
            smooth_to_gaps(self._viewer, layer)

    @property
    def heatmap(self) -> Image | None:
        """Return the layer of the scan's own map; ``None`` where there is none."""
        shown = self._session.heatmap
        return None if shown is None else self.maps.get(shown.kind.name)

    def _on_maps_replaced(self) -> None:
        """Show the session's maps; layers that show their arrays already stay."""
        kept, self.maps = self.maps, {}
        wanted = self._session.maps
        for name, layer in kept.items():
            if name in wanted and layer.data is wanted[name].values:
                self.maps[name] = layer
            elif layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        above = (self.lesions, self.detections, self.mined)
        under = next((layer for layer in above if layer is not None), None)
        for name, shown in wanted.items():
            if name in self.maps:
                continue
            layer = layers.map_layer(
                shown, self._session.threshold, name=self._name(shown.kind.title), opacity=self.strength
            )
            if name in kept:
                layer.visible, layer.opacity = _is_wanted(kept[name]), kept[name].opacity
                self._hidden_overlay = [layer if one is kept[name] else one for one in self._hidden_overlay]
            later = list(wanted)[list(wanted).index(name) + 1 :]
            next_map = next((self.maps[other] for other in later if other in self.maps), None)
            self.maps[name] = self._add(layer, under=next_map or under)
            smooth_to_gaps(self._viewer, layer)
        self.maps = {name: self.maps[name] for name in wanted if name in self.maps}
        self._tinted = False
        self._tint(scanning=self._session.activity.busy)

    def _on_cells_written(self, name: str, parts: tuple[Region, ...]) -> None:
        layer = self.maps.get(name)
        # Hidden, it is drawn as a whole when it is shown again.
        if layer is not None and layer.visible and not redraw_image(self._viewer, layer, parts):
            draw_now(layer)

    def prefer_latest(self) -> None:
        """Of maps that cover each other, show what lesions are read from: one over the other, neither can be read.

        That is a map that stands alone, or those that are blended, without the scan's own where the last covers it.
        """
        session, read = self._session, self._session.read_map
        if read is None:
            return
        alone = {name for name, one in session.maps.items() if one.kind.stands_alone}
        own, *later = (name for name in session.maps if name not in alone)
        hidden = alone
        if read.kind.stands_alone:
            hidden = {own, *later}
        elif later and later[-1] in self.maps and session.is_covered(later[-1]):
            hidden = alone | {own}
        for name, layer in self.maps.items():
            # Without a map that stands alone nothing was hidden before.
            if name in hidden or alone:
                self._show(layer, shown=name not in hidden)

    def _show(self, layer: Layer, *, shown: bool) -> None:
        """Show or hide a layer, now or once its slide is shown."""
        if self.slide.visible:
            layer.visible = shown
        else:
            layer.metadata[_WAS_VISIBLE] = shown

    def _on_activity_changed(self, activity: Activity) -> None:
        self._tint(scanning=activity.busy)

    def _tint(self, *, scanning: bool) -> None:
        """Show what was scanned while a scan is running, and only tumour afterwards."""
        if scanning != self._tinted:
            self._tinted = scanning
            self._color_maps()

    def _color_maps(self) -> None:
        """Draw the maps from the threshold on, each probability in its own colour."""
        threshold = self._session.threshold
        for name, layer in self.maps.items():
            scanning = self._tinted and layer is self.heatmap
            layer.colormap = map_colormap(self._session.maps[name].kind.colors, threshold, scanning=scanning)
            layer.contrast_limits = shown_limits(threshold)

    def _on_threshold_changed(self, threshold: float) -> None:
        # Both are cheap and follow the slider at once; labels and missing points follow when it rests.
        self._color_maps()
        if self.detections is not None and len(self.detections.data):
            with unrefreshed(self.detections):
                self.detections.shown = self.detections.features["probability"].to_numpy() >= threshold
            draw_now(self.detections)
            self.marks_changed.emit()

    def _on_found_changed(self) -> None:
        read = self._session.read_map
        if read is not self._read_map:
            # Other maps, or another of them; one that stands alone is read once it answers for enough.
            self._read_map = read
            if any(one.kind.stands_alone for one in self._session.maps.values()):
                self.prefer_latest()
        self._show_lesions()
        self._show_detections()
        self.marks_changed.emit()

    def _show_lesions(self) -> None:
        found = self._session.found
        old = self.lesions
        if old is not None and (found is None or old.data.shape != found.labels.shape):
            self._viewer.layers.remove(old)
        if found is None:
            return
        if self.lesions is None:
            # Outlines show them; the labels are there for those who compute with them.
            visible = not self.outlines.can_draw
            layer = layers.lesions_layer(self._session, name=self._name("Lesion labels"), visible=visible)
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
        layers.show_points(layer, *layers.detections_of(found), layers.RING_COLOR)

    def _on_tissue_changed(self) -> None:
        tissue = self._session.tissue
        if tissue is None:
            return
        visible = False
        if self.tissue is not None:
            visible = _is_wanted(self.tissue)
            self._viewer.layers.remove(self.tissue)
        layer = layers.tissue_layer(tissue, name=self._name("Tissue"))
        layer.visible = visible
        self.tissue = layer
        self._add_under_maps(layer)

    def _add_under_maps(self, layer: Layer) -> Layer:
        above = (*self.maps.values(), self.lesions, self.detections, self.mined)
        return self._add(layer, under=next((each for each in above if each is not None), None))
