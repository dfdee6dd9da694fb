"""A slide scanned in parts: which pieces a part takes, and how what parts have answered comes together.

Every part makes the plan of the whole slide and takes its share of the pieces. A piece is read and computed as in a
scan of the whole, and no cell belongs to two of them: what comes together is what one scan writes, to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.scanning.maps.features import FeatureStore
from napari_metastasis.scanning.maps.journal import read_regions
from napari_metastasis.scanning.maps.ome_zarr import digest, journal_path, read_header
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.scanning.plan import ScanPlan, Wanted, nearest_first, plan_scan

__all__ = ["SlidePart", "gather", "maps_like", "plan_part"]


@dataclass(frozen=True, slots=True)
class SlidePart:
    """One of several parts of a slide.

    Attributes
    ----------
    number
        From 0.
    of
        How many there are.
    """

    number: int
    of: int

    def taken(self, plan: ScanPlan) -> ScanPlan:
        """Return the plan with the pieces of this part: neighbours, and about as many cells as every other part's."""
        pieces = sorted(plan.rois, key=lambda roi: (roi.write.y, roi.write.x))
        areas = np.array([roi.write.size.area for roi in pieces], np.float64)
        middles = np.cumsum(areas) - areas / 2
        owners = np.floor(middles / max(1.0, float(areas.sum())) * self.of).astype(np.intp)
        mine = {roi for roi, owner in zip(pieces, owners.tolist(), strict=True) if owner == self.number}
        return replace(plan, rois=tuple(roi for roi in plan.rois if roi in mine))


def plan_part(frame: HeatmapFrame, wanted: Wanted, part: SlidePart | None, *, roi_px: int, block: int = 1) -> ScanPlan:
    """Return the plan of a slide, or that of a part of it.

    A part takes its pieces from the plan of a slide that nobody has begun, so that parts which go on keep their pieces;
    those that are answered are left out.

    Parameters
    ----------
    frame, wanted, roi_px, block
        As :func:`plan_scan` takes them.
    part
        Which part; ``None`` for the whole slide.

    Raises
    ------
    RegionError, SettingsError
        As :func:`plan_scan` does.
    """
    if part is None:
        return plan_scan(frame, wanted, roi_px=roi_px, block=block)
    plan = part.taken(plan_scan(frame, replace(wanted, done=None), roi_px=roi_px, block=block))
    done = wanted.done
    if done is None:
        return plan
    left = [roi for roi in plan.rois if (plan.needed[roi.write.slices] & ~done[roi.write.slices]).any()]
    return replace(plan, rois=tuple(left))


def maps_like(store: MapStore, folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the maps of the same kind, with the same answers, in other folders; what cannot be read is passed over."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob(f"{store.kind.stem}*.ome.zarr")):
            try:
                header = read_header(path)
            except StorageError:
                continue
            if header.frame == store.frame and digest(header.identity) == digest(store.identity):
                found.append(path)
    return tuple(found)


def gather(
    store: MapStore,
    paths: Sequence[Path],
    *,
    features: FeatureStore | None = None,
    features_of: Sequence[FeatureStore | None] = (),
    block: int = 1,
) -> None:
    """Copy into a map what others have answered, piece by piece, in the order of a scan of the whole slide.

    What is answered already stays. Maps that cannot be read are passed over: their cells are scanned again.

    Parameters
    ----------
    store
        Opened for writing.
    paths
        From :func:`maps_like`.
    features
        Where the features of the same pieces are stored; ``None`` where they are not.
    features_of
        Theirs, of each of ``paths``.
    block
        Cells along a side of one that has features.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    whole = Region.of(store.frame.cells)
    pieces: dict[Region, tuple[MapStore, FeatureStore | None]] = {}
    for path, encoded in zip(paths, features_of or [None] * len(paths), strict=True):
        try:
            part = MapStore.open(path)
        except StorageError:
            continue
        for cells in read_regions(journal_path(path)):
            if whole.contains(cells):
                pieces.setdefault(cells, (part, encoded))
    for cells in sorted(pieces, key=nearest_first(whole.center)):
        of_part, encoded = pieces[cells]
        if features is not None and encoded is None:
            # Its patches are encoded again, and answered with that.
            continue
        try:
            values = of_part.values(cells)
            patches = None if features is None or encoded is None else encoded.read(cells.coarse(block))
        except StorageError:
            # What is damaged in a part is answered again, as what is missing.
            continue
        if store.covers(cells, ~np.isnan(values)):
            continue
        if features is not None and patches is not None:
            features.write(cells.coarse(block), patches)
        store.write(cells, values)
