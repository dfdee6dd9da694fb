"""Lesions of a heatmap at any threshold: prepared once at the floor, then only what changes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_metastasis.errors import ModelError, RegionError, SettingsError
from napari_metastasis.geometry import ChunkedCells, HeatmapFrame, sparse_zeros
from napari_metastasis.lesions import measure
from napari_metastasis.lesions.component_tree import build_tree
from napari_metastasis.lesions.labelling import Labelling
from napari_metastasis.lesions.lesion import Detections, Findings, LesionRow
from napari_metastasis.lesions.outlines import outline
from napari_metastasis.lesions.peaks import find_peaks
from napari_metastasis.lesions.size_classes import estimated_nuclei
from napari_metastasis.lesions.surface import floor_cells
from napari_metastasis.settings import DetectionSettings

__all__ = ["LesionIndex"]

#: How far rounding, of averaged views for one, may lift a probability above 1.
_ROUNDING = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """All that lesions at one threshold are measured and drawn from; it does not move with the slider."""

    threshold: np.float32
    shown: int  # cells at the threshold
    lesion_of: NDArray[np.int32]  # for each node that reaches it, the node that names its lesion
    roots: NDArray[np.intp]  # the nodes that name one
    node_area: NDArray[np.int64]  # shown cells of each node
    area: NDArray[np.int64]  # cells of the lesion that each node names, 0 if none
    probability: NDArray[np.float32]  # highest of that lesion


class LesionIndex:
    """Lesions, labels and detections of one heatmap, at every threshold from the floor up.

    A lesion at threshold t is an 8-connected component of the cells with p >= t, after a morphological opening with a
    flat square (Lin et al. 2019, II-C). Detections are the peaks of the opened map that stand out by at least 1/128,
    thinned by non-maximum suppression once and for all. At a threshold those that reach it are shown, and the highest
    peak of each lesion that a stronger neighbour had left without its own; what lies closer than the radius to such a
    peak, in its lesion, gives way. Thresholds are compared in float32, as the probabilities are stored.

    Foci whose borders lie no farther apart than the gap of the settings are one lesion, of the id of the highest peak.

    Memory: 12 bytes a cell of the map, of which only parts with lesions are ever touched, and 20 bytes a cell at the
    floor; about 74 bytes a cell at the floor while it is built. Safe to use from several threads.

    Parameters
    ----------
    probabilities
        (rows, columns) float32 in 0..1, NaN where nothing was scanned; or its chunks. Neither kept nor changed.
    frame
        Where the cells lie.
    settings
        Floor, opening and radius. A threshold below the floor lowers it.
    map
        Name of the map, which its lesions carry; the scan's own by default.
    unanswered
        bool, (rows, columns): cells that hold tissue and were not scanned. A lesion that touches one of them, or would
        grow into them if they were tumour, is cut by the edge of what was scanned. ``None`` where that is not known or
        there is none. Not kept.

    Attributes
    ----------
    labels
        (rows, columns) int32, 0 outside lesions: those of the last threshold asked for, rewritten in place.
    slide_score
        Highest probability anywhere, before opening; NaN if nothing was scanned.

    Raises
    ------
    RegionError
        If ``probabilities`` has another shape than the frame's cells.
    ModelError
        If a value is no probability.
    """

    def __init__(
        self,
        probabilities: NDArray[np.float32] | ChunkedCells,
        frame: HeatmapFrame,
        settings: DetectionSettings,
        *,
        map: str = "probability",
        unanswered: NDArray[np.bool_] | None = None,
    ) -> None:
        self.frame = frame
        self.settings = settings.with_reachable_threshold()
        self.map = map
        shape = frame.cells.shape
        for cells in (probabilities, unanswered):
            if cells is not None and cells.shape != shape:
                raise RegionError(
                    f"expected a heatmap of {shape[0]} rows and {shape[1]} columns, got an array of shape "
                    f"{cells.shape}; pass the frame it was scanned with"
                )
        probabilities = ChunkedCells.of(probabilities)
        self.slide_score = _highest(probabilities)
        stride = shape[1] + 2
        # The scratch space of the nodes becomes the labels.
        numbers = sparse_zeros(((shape[0] + 2) * stride,), np.int32)
        side = max(1, round(settings.opening_um / frame.cell_um))
        self._heights = sparse_zeros((shape[0] + 2, stride), np.float32)
        surface = floor_cells(
            probabilities, floor=self.settings.floor, side=side, heights=self._heights, unanswered=unanswered
        )
        self._tree = build_tree(surface, numbers, stride)
        self._radius = settings.nms_radius_um / frame.cell_um
        self._peaks = find_peaks(surface, self._tree, shape=shape, radius=self._radius)
        # Of each node, the highest threshold at which a cell of it is cut: all that a move of the threshold looks at.
        self._cut = np.full(len(self._tree.peak), -np.inf, np.float32)
        at_edge = np.flatnonzero(surface.cut > -np.inf)
        np.maximum.at(self._cut, self._tree.of_cell[at_edge], surface.cut[at_edge])
        self._labelling = Labelling(surface, self._tree, numbers=numbers, shape=shape)
        self._lock = threading.Lock()

    @property
    def labels(self) -> NDArray[np.int32]:
        """Return the labels of the last threshold asked for."""
        return self._labelling.labels

    def at(self, threshold: float) -> Findings:
        """Return what lies at or above ``threshold``, and bring :attr:`labels` to it.

        The work is proportional to the cells that enter, leave or change their lesion, plus the number of nodes.

        Raises
        ------
        SettingsError
            If ``threshold`` lies below the floor that the index was built for, or above 1.
        """
        floor = self.settings.floor
        if not floor <= threshold <= 1:
            raise SettingsError(
                f"expected a threshold between the floor {floor:g} and 1, got {threshold:g}; "
                "choose one in that range, or lower the floor"
            )
        with self._lock:
            exact = np.float32(threshold)
            lesion_of = self._joined(exact, self._tree.lesions_at(exact))
            changed = self._labelling.move(exact, lesion_of)
            level = self._level(exact, lesion_of)
            return Findings(
                threshold=float(threshold),
                detections=self._detections(level),
                labels=self.labels,
                frame=self.frame,
                map=self.map,
                changed=changed,
                slide_score=self.slide_score,
                measure=partial(self._measure, level),
                draw=partial(self._draw, level),
            )

    def _level(self, threshold: np.float32, lesion_of: NDArray[np.int32]) -> _Level:
        count = len(lesion_of)
        node_area = self._labelling.node_area[:count].copy()
        probability = np.full(count, -np.inf, dtype=np.float32)
        np.maximum.at(probability, lesion_of, self._labelling.node_probability[:count])
        return _Level(
            threshold=threshold,
            shown=self._labelling.shown,
            lesion_of=lesion_of,
            roots=np.flatnonzero(lesion_of == np.arange(count, dtype=np.int32)),
            node_area=node_area,
            area=np.bincount(lesion_of, weights=node_area, minlength=count).astype(np.int64),
            probability=probability,
        )

    def _joined(self, threshold: np.float32, lesion_of: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the node that names the lesion of each node once foci within the gap are one lesion."""
        if not self.settings.gap_um or not len(lesion_of):
            return lesion_of
        labelling = self._labelling
        border = labelling.border_at(threshold)
        points, of = measure.border_points(labelling.cell[border], self._heights, threshold)
        roots, focus = np.unique(lesion_of[labelling.node[border[of]]], return_inverse=True)
        together = measure.joined(points, focus, reach=self.settings.gap_um / self.frame.cell_um)
        named = np.arange(len(lesion_of), dtype=np.int32)
        # Roots are sorted: the first focus of a lesion has the highest peak.
        named[roots] = roots[together]
        return named[lesion_of]

    def _detections(self, level: _Level) -> Detections:
        count, peaks = len(level.lesion_of), self._peaks
        kept = peaks.kept[: np.searchsorted(peaks.kept, count)]
        peakless = np.zeros(count, dtype=bool)
        peakless[level.roots] = True
        peakless[kept] = False
        added = np.flatnonzero(peakless)
        if len(added):
            own = level.lesion_of[kept]
            apart = np.hypot(
                np.rint(peaks.row[kept]) - np.rint(peaks.row[own]),
                np.rint(peaks.column[kept]) - np.rint(peaks.column[own]),
            )
            kept = kept[~peakless[own] | (apart >= self._radius)]
        nodes = np.concatenate((kept, added))
        lesions = level.lesion_of[nodes]
        # A lesion scores its highest probability wherever that lies in it (Lin et al. 2019, II-C).
        probability = level.probability[lesions]
        probability = np.where(nodes == lesions, probability, np.minimum(probability, peaks.probability[nodes]))
        order = np.lexsort((nodes, -probability))
        nodes, lesions, probability = nodes[order], lesions[order], probability[order]
        ids = self._labelling.ids[lesions]
        row, column = self._locations(nodes, ids)
        first = self.frame.cell_center(0, 0)
        return Detections(
            x=first.x + column * self.frame.cell_px,
            y=first.y + row * self.frame.cell_px,
            probability=probability,
            lesion=ids,
        )

    def _locations(
        self, nodes: NDArray[np.intp], ids: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return row and column of the nodes' peaks: their middle, or their first cell if the middle is not shown."""
        row, column = self._peaks.row[nodes], self._peaks.column[nodes]
        inside = self.labels[np.rint(row).astype(np.intp), np.rint(column).astype(np.intp)] == ids
        top_row, top_column = self._labelling.locate(self._tree.top[nodes])
        return np.where(inside, row, top_row), np.where(inside, column, top_column)

    def _measure(self, level: _Level, detections: Detections) -> tuple[LesionRow, ...]:
        """Return the lesions at a level, the most probable first."""
        roots, labelling = level.roots, self._labelling
        if not len(roots):
            return ()
        border = labelling.border_at(level.threshold)
        rank = np.zeros(len(level.lesion_of), dtype=np.intp)
        rank[roots] = np.arange(len(roots))
        points, of = measure.border_points(labelling.cell[border], self._heights, level.threshold)
        lesion = rank[level.lesion_of[labelling.node[border[of]]]]
        cell_mm = self.frame.cell_um / 1000
        length = measure.longest_diameters(points, lesion, count=len(roots)) * cell_mm
        area = level.area[roots] * cell_mm**2
        ids, first, number = np.unique(detections.lesion, return_index=True, return_counts=True)
        at = np.searchsorted(ids, labelling.ids[roots])
        probability = level.probability[roots]
        cut = np.zeros(len(roots), np.bool_)
        cut[rank[level.lesion_of[self._cut[: len(level.lesion_of)] >= level.threshold]]] = True
        return tuple(
            LesionRow(
                id=int(ids[at[index]]),
                x=float(detections.x[first[at[index]]]),
                y=float(detections.y[first[at[index]]]),
                probability=float(probability[index]),
                area_mm2=float(area[index]),
                length_mm=float(length[index]),
                detections=int(number[at[index]]),
                map=self.map,
                cut_by_edge=bool(cut[index]),
                nuclei=estimated_nuclei(float(area[index]), self.settings.nuclei_per_mm2),
            )
            # Stable: equals stay in the order of their peaks.
            for index in np.argsort(-probability, kind="stable").tolist()
        )

    def _draw(self, level: _Level, lesion: int) -> shapely.Polygon | shapely.MultiPolygon:
        (root,) = level.roots[self._labelling.ids[level.roots] == lesion]
        nodes = np.flatnonzero(level.lesion_of == root)
        cells, _ = self._labelling.cells_of(nodes, level.node_area[nodes])
        return outline(cells, self._heights, level.threshold, self.frame)


def _highest(probabilities: ChunkedCells) -> float:
    """Return the highest value, NaN if there is none, and refuse what is no probability."""
    if not probabilities.chunks:
        return float("nan")
    # fmax and fmin pass over NaN, without a copy and without nanmax's warning.
    highest = float(np.fmax.reduce([np.fmax.reduce(values, axis=None) for _, values in probabilities]))
    lowest = float(np.fmin.reduce([np.fmin.reduce(values, axis=None) for _, values in probabilities]))
    if highest > 1 + _ROUNDING or lowest < -_ROUNDING:
        raise ModelError(
            f"expected probabilities between 0 and 1, got {lowest:g} to {highest:g}; "
            "pass the network's answers after its sigmoid or softmax"
        )
    return highest
