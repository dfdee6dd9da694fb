"""Refining beside a scan, or after it: what is encoded is refined as soon as its neighbours are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.models import Refiner
from napari_metastasis.scanning import (
    FEATURES_VERSION,
    BlockRefiner,
    BoolArray,
    FeatureStore,
    FinishedRoi,
    FloatArray,
    Heatmap,
    RefinePlan,
    digest,
    plan_refinement,
    read_header,
)
from napari_metastasis.settings import TissueSettings
from napari_metastasis.workflows.scan.result_folder import last_written

__all__ = [
    "Refinement",
    "feature_path",
    "latest_refined",
    "prepare_refinement",
    "refined_identity",
    "refined_path",
]

#: Version of refined answers: to be raised when a change of this program changes one by more than rounding.
_REFINED_VERSION = 1
_REFINED_NAME = "refined"
#: What refining a model pixel costs beside scanning it, for progress alone.
_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Refinement:
    """A refinement that is ready to run.

    Attributes
    ----------
    refiner
        What refines.
    plan
        What is left to refine.
    features
        The encoded patches.
    heatmap
        The refined map, opened for writing.
    blocks
        Runs the refiner.
    """

    refiner: Refiner
    plan: RefinePlan
    features: FeatureStore
    heatmap: Heatmap
    blocks: BlockRefiner

    @property
    def frame(self) -> HeatmapFrame:
        """Return where the refined map's cells lie."""
        return self.plan.frame

    @property
    def model_px(self) -> int:
        """Return what progress counts for all of it."""
        return sum(self._work(block) for block in self.plan.blocks)

    def _work(self, block: Region) -> int:
        inside = block.intersection(Region.of(self.frame.cells))
        return int(inside.size.area * self.frame.stride_px**2 * _WEIGHT)

    def run(self, rois: Generator[FinishedRoi], should_stop: Callable[[], bool]) -> Generator[FinishedRoi]:
        """Yield what a scan yields, and each refined block as soon as everything that it waits for is encoded.

        Parameters
        ----------
        rois
            The scan; it is closed with this.
        should_stop
            Asked before each block.

        Raises
        ------
        DeviceError
            If the device fails.
        StorageError
            If features cannot be read, or an answer cannot be stored.
        """
        waiting = dict.fromkeys(self.plan.blocks)
        done = refined = 0
        extra = self.model_px
        with closing(rois):
            for roi in rois:
                done = roi.done
                total = roi.total + extra
                yield replace(roi, done=done + refined, total=total)
                native = self._native(roi.cells)
                near = [block for block in waiting if not self.plan.around(block).intersection(native).is_empty]
                for block in near:
                    if should_stop():
                        return
                    if (answers := self._refined(block)) is not None:
                        del waiting[block]
                        refined += self._work(block)
                        yield replace(answers, done=done + refined, total=total)
        # What waited for nothing new: features of an earlier scan.
        for block in list(waiting):
            if should_stop():
                return
            if (answers := self._refined(block)) is not None:
                refined += self._work(block)
                yield replace(answers, done=done + refined, total=done + extra)

    @property
    def finished(self) -> bool:
        """Return whether all that was asked for is refined."""
        return bool(self.heatmap.done[self.plan.needed].all())

    def close(self) -> None:
        """Give the store back; a second call does nothing."""
        self.heatmap.close()

    def _native(self, cells: Region) -> Region:
        """Return the native cells that dense cells lie in."""
        alpha = int(self.heatmap.identity["dense_coefficient"])
        x, y = cells.x // alpha, cells.y // alpha
        return Region(x, y, -(-cells.right // alpha) - x, -(-cells.bottom // alpha) - y)

    def _refined(self, block: Region) -> FinishedRoi | None:
        """Refine and store a block; ``None`` while it waits."""
        around, expected = self.plan.waits_for(block)
        if not self.features.covers(around, expected):
            return None
        window = self.plan.around(block)
        features = self.features.read(window)
        # Patches that other tissue settings had encoded are there, but have no say in this map.
        has_say = np.zeros(window.size.shape, np.bool_)
        has_say[around.shifted(-window.x, -window.y).slices] = expected
        features[:, ~has_say] = np.nan
        answers = self.blocks.refine(features)
        inside = block.intersection(Region.of(self.frame.cells))
        answers = answers[: inside.height, : inside.width]
        answers[~self.plan.needed[inside.slices]] = np.nan
        self.heatmap.write(inside, answers)
        return FinishedRoi(
            cells=inside, probabilities=answers, model_px=self._work(block), done=0, total=0, refined=True
        )


def feature_path(folder: Path, identity: Mapping[str, Any]) -> Path:
    """Return where the features of a scan lie, by everything that decides them: another refiner reads others."""
    return folder / f"features-{digest({**identity, 'features_version': FEATURES_VERSION})[:8]}.zarr"


def refined_path(folder: Path, identity: Mapping[str, Any]) -> Path:
    """Return where a refined map lies: ``refined.ome.zarr``, or a name of its own beside that of other settings."""
    path = folder / f"{_REFINED_NAME}.ome.zarr"
    if not path.exists():
        return path
    try:
        _, stored = read_header(path)
    except StorageError:
        # Not one of ours, or of another version: it is left alone.
        stored = {}
    wanted = digest(identity)
    return path if digest(stored) == wanted else folder / f"{_REFINED_NAME}-{wanted[:8]}.ome.zarr"


def latest_refined(folder: Path, scan: Mapping[str, Any]) -> tuple[HeatmapFrame, FloatArray] | None:
    """Return frame and probabilities of the map that was refined last from a scan; ``None`` where there is none.

    Parameters
    ----------
    folder
        The result folder.
    scan
        Identity of the scan's own map. One that cannot be read is passed over.
    """
    for path in sorted(folder.glob(f"{_REFINED_NAME}*.ome.zarr"), key=last_written, reverse=True):
        try:
            _, stored = read_header(path)
            if {key: stored.get(key) for key in scan} == dict(scan):
                with Heatmap.open(path) as heatmap:
                    return heatmap.frame, heatmap.probabilities()
        except StorageError:
            continue  # not one of ours, of another version, or damaged: the scan's own map is not to suffer for it
    return None


def refined_identity(scan: Mapping[str, Any], refiner: Refiner, tissue: TissueSettings | None) -> dict[str, Any]:
    """Return everything that decides a refined map, as plain values.

    Parameters
    ----------
    scan
        Identity of the scan's own map.
    refiner
        What refines.
    tissue
        How glass was told from tissue: patches on glass have no say. ``None`` where they were scanned as well.
    """
    return {
        **scan,
        "refined_version": _REFINED_VERSION,
        "refiner": refiner.spec.name,
        "refiner_sha256": refiner.weights_sha256,
        "tissue": None if tissue is None else asdict(tissue),
    }


def prepare_refinement(
    refiner: Refiner,
    features: FeatureStore,
    *,
    folder: Path,
    frame: HeatmapFrame,
    identity: Mapping[str, Any],
    wanted: Region,
    tissue: BoolArray | None,
    focus: Point | None,
    device: str,
) -> Refinement:
    """Settle everything that refining needs.

    Parameters
    ----------
    refiner, features
        What refines, and the encoded patches.
    folder
        The result folder.
    frame
        Of native cells.
    identity
        From :func:`refined_identity`.
    wanted
        Native cells asked for.
    tissue
        bool, (rows, columns): native cells that show tissue; ``None`` for all.
    focus
        Level-0 location to begin at.
    device
        Where the refiner runs, as torch takes it.

    Raises
    ------
    DeviceError
        If the device does not take the refiner.
    StorageError
        If the folder cannot be written.
    """
    blocks = BlockRefiner(refiner.network, device)
    heatmap = Heatmap.open_or_create(refined_path(folder, identity), frame=frame, identity=identity)
    plan = plan_refinement(frame, wanted=wanted, tissue=tissue, done=heatmap.done, focus=focus, spec=refiner.spec)
    return Refinement(refiner, plan, features, heatmap, blocks)
