"""One open slide: what is known of it, and signals for each change. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal

from napari_metastasis._napari.words import for_window
from napari_metastasis.geometry import Point, Region, any_of_blocks
from napari_metastasis.settings import THRESHOLD, DetectionSettings
from napari_metastasis.tasks import pass_tasks

if TYPE_CHECKING:
    from napari_metastasis.lesions import Findings, LesionIndex, Reviewed
    from napari_metastasis.scanning import BoolArray, Coverage, MapValues
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan import ReviewMark

__all__ = ["METADATA_KEY", "Activity", "SlideSession"]

#: Key of the session in the metadata of its slide's layer, where the workspace finds it.
METADATA_KEY = "napari-metastasis"

ProbabilityArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is being done for a slide now, for a person.

    Attributes
    ----------
    stage
        One short line; empty where nothing is being done.
    busy
        Whether a scan is being prepared or running.
    done, total
        Model pixels answered and wanted; ``total`` is 0 while it is not known.
    mpx_per_s
        Model pixels per second, in millions; 0 while not measured.
    seconds_left
        ``None`` while not known.
    outlining
        Whether all is scanned, and what is left is to outline it: no more of the tissue will be answered for.
    error
        One line with what was expected, what came, and what to do; empty where nothing failed.
    """

    stage: str = ""
    busy: bool = False
    done: int = 0
    total: int = 0
    mpx_per_s: float = 0.0
    seconds_left: float | None = None
    outlining: bool = False
    error: str = ""


class SlideSession:
    """What belongs to one open slide. Used on the GUI thread only.

    Parameters
    ----------
    slide
        The open slide. Its controller closes it.

    Attributes
    ----------
    slide
        The open slide.
    maps
        By name: the scan's own map, then those of the passes after it; empty before there is one. Their values are
        written in place as a scan goes on.
    shares
        Share of each later map in what lesions are read from, by its name; 1 where none is set.
    own_thresholds
        Of the models of single maps, by the maps' names; empty where the threshold does not depend on the map.
    found
        Lesions and detections at the threshold; ``None`` before they were looked for.
    tissue
        Where the tissue lies; ``None`` before it was looked for.
    coverage
        How much of the tissue is answered by what lesions are read from; ``None`` before both are known.
    tissue_cells
        Cells of :attr:`read_map` that it counts: bool, (rows, columns); ``None`` before they are known.
    colour_note
        What has to be said of the slide's colours; empty where nothing has, or before they were looked at.
    selected
        Id of the lesion that was chosen; ``None`` where none is. It follows the lesion as the threshold moves.
    folder
        Where the results lie; ``None`` where there are none.
    model_name
        Name of the model that made the heatmap; empty where there is none.
    told
        What a person has to know of the maps, a line each.
    detection
        How lesions are read off the heatmap; its threshold is the slider's.
    threshold_chosen
        Whether the user moved the threshold, so that no model's own takes its place.
    origin
        Where a result comes from that was not scanned now, as "Earlier result of 28 Nov"; else empty.
    review
        What of the result a person has looked through; ``None`` where nothing was.
    mitoses
        Their map, and what counts of it.
    corrections
        What a person says of findings and tissue, with every step of it.
    reviewed
        Which of the lesions at the threshold that speaks of; ``None`` before it was found out.
    counted
        What counts of the findings, and of what was drawn, for a person; empty before it was counted.
    made_with
        Everything that decided the heatmap of an earlier result that is shown, and the options of its passes; else
        empty.
    looking
        Whether results of an earlier scan are being looked for, so that nothing can be said of them yet.
    activity
        What is being done.
    thumbnail
        uint8 (rows, columns, 3), the whole slide in a small picture; ``None`` before it was made.
    closed
        Whether the slide was closed; nothing may be started any more.
    """

    maps_replaced = Signal()
    cells_written = Signal(str, object)  # name of the map, tuple of Region in its cells
    share_changed = Signal(str, float)  # name of the map
    found_changed = Signal()
    threshold_changed = Signal(float)
    selected_changed = Signal()
    tissue_changed = Signal()
    coverage_changed = Signal()
    colour_note_changed = Signal()
    activity_changed = Signal(object)  # Activity
    thumbnail_changed = Signal()
    looking_changed = Signal(bool)
    review_changed = Signal()
    reviewed_changed = Signal()
    counted_changed = Signal()

    def __init__(self, slide: Slide) -> None:
        # Imported where there is a slide: an empty window starts without outlines.
        from napari_metastasis._napari.slide_corrections import SlideCorrections
        from napari_metastasis._napari.slide_mitoses import SlideMitoses

        self.slide = slide
        self.maps: dict[str, MapValues] = {}
        self.shares: dict[str, float] = {}
        self.own_thresholds: Mapping[str, float] = {}
        self.found: Findings | None = None
        self.tissue: TissueMask | None = None
        self.coverage: Coverage | None = None
        self.tissue_cells: BoolArray | None = None
        self.colour_note = ""
        self.folder: Path | None = None
        self.model_name = ""
        self.told: tuple[str, ...] = ()
        self.detection = DetectionSettings().for_model(THRESHOLD)
        self.threshold_chosen = False
        self.activity = Activity()
        self.looking = False
        self.review: ReviewMark | None = None
        self.origin = ""
        self.made_with: Mapping[str, Any] = {}
        self.selected: int | None = None
        self.thumbnail: npt.NDArray[np.uint8] | None = None
        self.closed = False
        self.corrections = SlideCorrections()
        self.mitoses = SlideMitoses()
        self.reviewed: Reviewed | None = None
        self.counted = ""
        self._selected_at: Point | None = None
        self._index: LesionIndex | None = None
        self._read_from = ""

    def __deepcopy__(self, memo: dict[int, object]) -> SlideSession:
        # Duplicating a layer in napari copies its metadata deeply: a second layer of the same slide shares its session.
        return self

    @property
    def threshold(self) -> float:
        """Return the probability from which a cell counts as tumour."""
        return self.detection.threshold

    @property
    def chosen_detection(self) -> DetectionSettings:
        """Return how lesions are read, with the model's own threshold unless the user has chosen one."""
        return self.detection if self.threshold_chosen else replace(self.detection, threshold=0.0)

    @property
    def unchosen_thresholds(self) -> Mapping[str, float]:
        """Return the threshold of each map's own model, by the maps' names; empty where the user has chosen one."""
        return {} if self.threshold_chosen else self.own_thresholds

    @property
    def floor(self) -> float:
        """Return the lowest threshold that can be shown: the floor of the lesions, once they are prepared."""
        settings = self.detection.with_reachable_threshold() if self._index is None else self._index.settings
        return settings.floor

    @property
    def slide_score(self) -> float:
        """Return the highest probability found; NaN where nothing was scanned."""
        return float("nan") if self.found is None else self.found.slide_score

    @property
    def heatmap(self) -> MapValues | None:
        """Return the scan's own map; ``None`` before there is one."""
        return next(iter(self.maps.values()), None)

    @property
    def read_map(self) -> MapValues | None:
        """Return the map on whose cells lesions are read: the scan's own, unless another one stands alone."""
        read = self.maps.get(self._read_from)
        return read if read is not None and read.kind.stands_alone else self.heatmap

    @property
    def probabilities(self) -> ProbabilityArray | None:
        """Return the heatmap, (rows, columns) float32, NaN where nothing was scanned; ``None`` before there is one."""
        return None if self.heatmap is None else self.heatmap.values

    @property
    def later_maps(self) -> tuple[MapValues, ...]:
        """Return the maps of the passes after the scan."""
        return tuple(self.maps.values())[1:]

    @property
    def passes(self) -> frozenset[str]:
        """Return the tasks of the passes whose maps are shown."""
        shown = {*self.maps, *([] if self.mitoses.frame is None else ["mitoses"])}
        return frozenset(task.name for task in pass_tasks() if task.writes in shown)

    def share_of(self, name: str) -> float:
        """Return the share of a later map in what lesions are read from."""
        return self.shares.get(name, 1.0)

    def show_maps(
        self,
        maps: Iterable[MapValues],
        *,
        model_name: str,
        folder: Path | None,
        told: tuple[str, ...] = (),
        shares: Mapping[str, float] | None = None,
        read_from: str | None = None,
    ) -> None:
        """Show other maps, the scan's own first; the lesions stay only where that one is the same array.

        Shares, and the map that lesions are read from, stay as they are where none are given.
        """
        before, before_read = self.heatmap, self.read_map
        self.shares = self.shares if shares is None else dict(shares)
        writable = {one.kind.name: replace(one, values=np.ascontiguousarray(one.values, np.float32)) for one in maps}
        self.maps = writable
        self._read_from = self._read_from if read_from is None else read_from
        self.model_name, self.folder, self.told = model_name, folder, tuple(map(for_window, told))
        own = self.heatmap
        others = before is None or own is None or before.values is not own.values
        if others:
            read = self.read_map
            same_cells = before_read is not None and read is not None and before_read.frame == read.frame
            self.show_coverage(None, self.tissue_cells if same_cells else None)
        self.maps_replaced.emit()
        if others:
            self.show_lesions(None)

    def tell_more(self, lines: Iterable[str]) -> None:
        """Tell more of the maps that are shown, once it is known."""
        self.told = tuple(dict.fromkeys((*self.told, *map(for_window, lines))))

    def write_cells(self, name: str, parts: Iterable[tuple[Region, ProbabilityArray]]) -> None:
        """Write finished parts of a map: their cells, and the values there."""
        if name in self.maps and (written := _written(self.maps[name].values, parts)):
            self.cells_written.emit(name, written)

    def is_covered(self, name: str) -> bool:
        """Return whether a later map has an answer wherever the heatmap has one, and can be shown without it.

        Parameters
        ----------
        name
            Of a map that does not stand alone.
        """
        own, later = self.heatmap, self.maps.get(name)
        if own is None or later is None:
            return False
        answered = any_of_blocks(~np.isnan(own.values), own.frame.block_in(later.frame))
        return not bool((answered & np.isnan(later.values)).any())

    def set_share(self, name: str, share: float) -> None:
        """Change the share of a later map in what lesions are read from."""
        share = min(max(share, 0.0), 1.0)
        if share != self.share_of(name):
            self.shares[name] = share
            self.share_changed.emit(name, share)

    def show_lesions(self, index: LesionIndex | None) -> None:
        """Show lesions, prepared for every threshold; ``None`` where they are not known."""
        same = index is self._index
        self._index = index
        self.found = None if index is None else index.at(self.threshold)
        self.found_changed.emit()
        self._follow_selected(same_ids=same)

    def select(self, lesion: int | None) -> None:
        """Choose a lesion by its id; ``None``, or an id that no lesion has, for none."""
        self._selected_at = None
        self.corrections.select("")
        if lesion is not None and self.found is not None:
            detections = self.found.detections
            own = np.flatnonzero(detections.lesion == lesion)
            if len(own):
                self._selected_at = Point(float(detections.x[own[0]]), float(detections.y[own[0]]))
        self._take_selected(lesion if self._selected_at is not None else None)

    def _follow_selected(self, *, same_ids: bool) -> None:
        """Keep the chosen lesion while it is shown; other ids are found by what lies where it lay."""
        if self._selected_at is None or self.found is None:
            self._take_selected(None)
        elif not (same_ids and (self.found.detections.lesion == self.selected).any()):
            cell, labels = self.found.frame.cell_at(self._selected_at), self.found.labels
            row, column = round(cell.y), round(cell.x)
            inside = 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]
            self._take_selected(int(labels[row, column]) or None if inside else None)

    def _take_selected(self, lesion: int | None) -> None:
        if lesion != self.selected:
            self.selected = lesion
            self.selected_changed.emit()

    def set_threshold(self, threshold: float) -> None:
        """Move the threshold, as the user chose. Lesions follow with :meth:`follow_threshold`."""
        self.threshold_chosen = True
        self._move_threshold(threshold)

    def suggest_threshold(self, threshold: float) -> None:
        """Move the threshold to a model's own, unless the user has chosen one."""
        if self.threshold_chosen:
            return
        detection = self.detection.with_own_threshold(threshold)
        if self._index is not None and self._index.settings.floor > detection.floor:
            # Not prepared so far down: lesions are searched anew.
            self.show_lesions(None)
        if detection != self.detection:
            self.detection = detection
            self.threshold_changed.emit(threshold)

    def restore_threshold(self, threshold: float, *, own: float) -> None:
        """Move the threshold to where it was left, also where the user has chosen another one.

        Parameters
        ----------
        threshold
            Where it was left.
        own
            That of the scan. Where it is the same, nobody chose it; both can be shown.
        """
        self.threshold_chosen = False
        self.suggest_threshold(min(threshold, own))
        if threshold != own:
            self.set_threshold(threshold)

    def _move_threshold(self, threshold: float) -> None:
        threshold = min(max(threshold, self.floor), 1.0)
        if threshold != self.threshold:
            self.detection = replace(self.detection, threshold=threshold)
            self.threshold_changed.emit(threshold)

    def follow_threshold(self) -> None:
        """Bring lesions and detections to the threshold."""
        if self._index is not None and (self.found is None or self.found.threshold != self.threshold):
            self.show_lesions(self._index)

    def show_coverage(
        self, coverage: Coverage | None, tissue_cells: BoolArray | None, *, read_from: str | None = None
    ) -> None:
        """Show how much of the tissue is answered, and which cells hold it; ``None`` where that is not known.

        Parameters
        ----------
        coverage, tissue_cells
            See the attributes.
        read_from
            Name of the map that lesions are read from; ``None`` for the same as before.
        """
        before, self._read_from = self._read_from, self._read_from if read_from is None else read_from
        if coverage != self.coverage or tissue_cells is not self.tissue_cells or before != self._read_from:
            self.coverage, self.tissue_cells = coverage, tissue_cells
            self.coverage_changed.emit()

    def look(self, *, looking: bool) -> None:
        """Say whether results of an earlier scan are being looked for."""
        if looking != self.looking:
            self.looking = looking
            self.looking_changed.emit(looking)

    def show_tissue(self, tissue: TissueMask) -> None:
        """Show the tissue mask."""
        if tissue is not self.tissue:
            self.show_coverage(None, None)
        self.tissue = tissue
        self.tissue_changed.emit()

    @property
    def is_reviewed(self) -> bool:
        """Return whether a person has looked through what is shown: these answers, at this threshold."""
        mark = self.review
        return (
            mark is not None
            and self.coverage is not None
            and mark.answered_cells == self.coverage.answered_cells
            and mark.threshold == self.threshold
        )

    def show_review(self, mark: ReviewMark | None) -> None:
        """Show what a person has looked through."""
        self.review = mark
        self.review_changed.emit()

    def show_reviewed(self, reviewed: Reviewed | None) -> None:
        """Show of which lesions a person has spoken."""
        if reviewed is not None or self.reviewed is not None:
            self.reviewed = reviewed
            self.reviewed_changed.emit()

    def show_counted(self, line: str) -> None:
        """Show what counts of the findings."""
        if line != self.counted:
            self.counted = line
            self.counted_changed.emit()

    def show_thumbnail(self, picture: npt.NDArray[np.uint8]) -> None:
        """Show the small picture of the whole slide."""
        self.thumbnail = picture
        self.thumbnail_changed.emit()

    def show_colour_note(self, note: str) -> None:
        """Show what has to be said of the slide's colours."""
        self.colour_note = for_window(note) if note else ""
        self.colour_note_changed.emit()

    def report(self, activity: Activity) -> None:
        """Show what is being done."""
        self.activity = activity
        self.activity_changed.emit(activity)


def _written(held: ProbabilityArray, parts: Iterable[tuple[Region, ProbabilityArray]]) -> tuple[Region, ...]:
    """Copy finished parts into an array; return where."""
    written = []
    for cells, probabilities in parts:
        # NaN is no new answer: glass, or cells that an earlier scan answered.
        np.copyto(held[cells.slices], probabilities, where=~np.isnan(probabilities))
        written.append(cells)
    return tuple(written)
