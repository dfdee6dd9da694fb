"""A scan that is ready to run, with its passes, its stores and its engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from napari_metastasis.geometry import HeatmapFrame
from napari_metastasis.models import ScanModels
from napari_metastasis.scanning import (
    AnsweredMap,
    BoolArray,
    ChosenEngine,
    DenseScan,
    FeatureStore,
    FinishedPiece,
    MapKind,
    MapStore,
    PreparedPass,
    ScanPlan,
    never,
    run_passes,
    seen_answered,
)
from napari_metastasis.settings import DetectionSettings
from napari_metastasis.slides import Slide, TissueMask
from napari_metastasis.workflows.scan.slide_stain import SlideStain
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["PreparedScan"]


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A scan that is ready to run. Close it, or use it in a ``with`` statement.

    Attributes
    ----------
    job
        What was asked for.
    slide, models
        What is scanned, and with what.
    tissue
        Where the slide holds tissue. The plan minds it unless ``job.scan.tissue_only`` is off.
    chosen
        The engine that runs the network, and its ROI.
    owns_engine
        Whether the engine was made for this scan, and is closed with it.
    scan
        The first pass: the scan itself.
    heatmap
        The map that it writes, opened for writing; it may hold answers of an earlier scan.
    features
        Where features are stored; ``None`` where they are not.
    passes
        That follow the scan, in their order.
    own_thresholds
        See :func:`~napari_metastasis.workflows.scan.job_models.own_thresholds`.
    stains
        How dense the slide's stain is, and whether it was brought to the model's, for each model that looks at it, by
        its task.
    notes
        What a person has to know of its results.
    """

    job: ScanJob
    slide: Slide
    models: ScanModels
    tissue: TissueMask
    chosen: ChosenEngine
    owns_engine: bool
    scan: DenseScan
    heatmap: MapStore
    features: FeatureStore | None
    passes: tuple[PreparedPass, ...]
    own_thresholds: Mapping[str, float]
    stains: Mapping[str, SlideStain]
    notes: tuple[str, ...]

    @property
    def stain(self) -> SlideStain:
        """Return the slide's stain as the first model that looks at it sees it."""
        return next(iter(self.stains.values()), SlideStain(None, (), normalised=False))

    @property
    def told(self) -> tuple[str, ...]:
        """Return what a window says of its results: the slide's stain, and the notes."""
        return tuple(filter(None, (self.stain.text, *self.notes)))

    @property
    def frame(self) -> HeatmapFrame:
        """Return where the heatmap's cells lie."""
        return self.heatmap.frame

    @property
    def folder(self) -> Path:
        """Return the result folder."""
        return self.heatmap.path.parent

    @property
    def plan(self) -> ScanPlan:
        """Return what is left to scan."""
        return self.scan.plan

    @property
    def stores(self) -> tuple[MapStore, ...]:
        """Return every map that is written: the scan's own first."""
        return (self.heatmap, *(one.store for one in self.passes))

    @property
    def model_px(self) -> int:
        """Return the work that is left: model pixels to scan, and a share of them for each pass."""
        return self.scan.model_px + sum(one.model_px for one in self.passes)

    @property
    def passes_finished(self) -> bool:
        """Return whether every pass that follows has answered all that was asked for."""
        return all(one.finished for one in self.passes)

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each later map in what lesions are read from, by its name; none of other maps."""
        requests = zip(self.job.wanted_passes, self.passes, strict=True)
        read = ((made.store.kind, request.settings.share) for request, made in requests)
        return {kind.name: share for kind, share in read if kind.is_probability}

    def run(self, should_stop: Callable[[], bool] = never) -> Generator[FinishedPiece]:
        """Scan, and yield each finished piece of every map after it was stored."""
        return run_passes(self.scan.run(should_stop), self.passes, self.model_px, should_stop)

    def maps(self) -> tuple[AnsweredMap, ...]:
        """Return every map as it is now: the scan's own first."""
        return tuple(AnsweredMap(store.kind, store.frame, store.answered()) for store in self.stores)

    def seen(self, maps: tuple[AnsweredMap, ...]) -> AnsweredMap:
        """Return what detections are read from: the maps, blended by the shares of the job, or one of them alone.

        Parameters
        ----------
        maps
            From :meth:`maps`.
        """
        own, *others = maps
        read = [(one, self.shares[one.kind.name]) for one in others if one.kind.is_probability]
        return seen_answered(own, read, self._tissue_of)

    def detection_of(self, kind: MapKind) -> DetectionSettings:
        """Return how lesions are read from a map."""
        detection = self.job.detection
        if kind.name in self.own_thresholds:
            detection = detection.with_own_threshold(self.own_thresholds[kind.name])
        return detection.on_pixels() if kind.stands_alone else detection

    def _tissue_of(self, frame: HeatmapFrame) -> BoolArray:
        """Return which cells of a map are to be answered."""
        tissue = self.tissue.over(frame)
        return tissue if self.job.scan.tissue_only else np.ones_like(tissue)

    def finish(self) -> None:
        """Write the coarser levels of every map."""
        for store in self.stores:
            store.finish()

    def close(self) -> None:
        """Close engine and stores; a second call does nothing. The generator of :meth:`run` must have ended."""
        # The scan's own map last: of a scan that failed at once, it removes the folders, which must be empty.
        if self.features is not None:
            if self.job.part is None and self.passes and self.passes_finished:
                # No pass needs them any more; those that a scan asked to keep are spared.
                self.features.discard()
            self.features.close()
        for one in reversed(self.passes):
            one.close()
        self.heatmap.close()
        if self.owns_engine:
            self.chosen.engine.close()

    def __enter__(self) -> PreparedScan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
