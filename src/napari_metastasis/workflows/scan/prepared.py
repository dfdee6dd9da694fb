"""A scan that is ready to run, with its store, its engine and what refines it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from napari_metastasis.geometry import HeatmapFrame, Region
from napari_metastasis.models import Model
from napari_metastasis.scanning import (
    Engine,
    FeatureStore,
    FinishedRoi,
    FloatArray,
    Heatmap,
    ScanPlan,
    blend,
    never,
    scan,
)
from napari_metastasis.settings import RefineSettings, ScanSettings, TissueSettings
from napari_metastasis.slides import Slide, TissueMask
from napari_metastasis.workflows.scan.refinement import Refinement

__all__ = ["PreparedScan"]


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A scan that is ready to run. Close it, or use it in a ``with`` statement.

    Attributes
    ----------
    slide, model, settings
        As asked for.
    frame
        Where the heatmap's cells lie.
    tissue
        Where the slide holds tissue. The plan minds it unless ``settings.tissue_only`` is off.
    tissue_settings
        How it was told from glass.
    engine
        Runs the network.
    roi_px
        Side of the largest read window, in model pixels.
    owns_engine
        Whether closing the scan closes the engine.
    heatmap
        The store, opened for writing; it may hold answers of an earlier scan.
    plan
        What is left to scan.
    region
        Level-0 pixels asked for; ``None`` for the whole slide.
    folder
        The result folder.
    notes
        What a person has to know of its results.
    features
        Where encoded patches are kept; ``None`` where they are not.
    refinement
        What refines the map; ``None`` where it is not refined.
    refine
        How.
    """

    slide: Slide
    model: Model
    settings: ScanSettings
    frame: HeatmapFrame
    tissue: TissueMask
    tissue_settings: TissueSettings
    engine: Engine
    roi_px: int
    owns_engine: bool
    heatmap: Heatmap
    plan: ScanPlan
    region: Region | None
    folder: Path
    notes: tuple[str, ...]
    features: FeatureStore | None
    refinement: Refinement | None
    refine: RefineSettings

    @property
    def model_px(self) -> int:
        """Return what progress counts for all of it: model pixels, and a part of them for refining."""
        return self.plan.model_px + (0 if self.refinement is None else self.refinement.model_px)

    def run(self, should_stop: Callable[[], bool] = never) -> Generator[FinishedRoi]:
        """Scan, and yield each finished ROI after it was stored; see :func:`napari_metastasis.scanning.scan`.

        Blocks of the refined map come between them, and behind them where the scan had been done before.
        """
        rois = scan(
            self.slide,
            self.engine,
            self.plan,
            self.heatmap,
            self.settings,
            features=self.features,
            should_stop=should_stop,
        )
        return rois if self.refinement is None else self.refinement.run(rois, should_stop)

    def probabilities(self) -> FloatArray:
        """Return what detections are read from, float32 (rows, columns) of ``frame``: the map, or its blend."""
        raw = self.heatmap.probabilities()
        if self.refinement is None:
            return raw
        refined = self.refinement
        return blend(raw, self.frame, refined.heatmap.probabilities(), refined.frame, self.refine.refined_share)

    def finish(self) -> None:
        """Write the coarser levels of every map."""
        self.heatmap.finish()
        if self.refinement is not None:
            self.refinement.heatmap.finish()

    def close(self) -> None:
        """Give engine and store back; a second call does nothing. The generator of :meth:`run` must be at its end."""
        # The scan's own map last: what it takes back are folders that hold nothing else any more.
        if self.features is not None:
            if self.refinement is not None and self.refinement.finished and not self.refine.keep_features:
                self.features.discard()
            self.features.close()
        if self.refinement is not None:
            self.refinement.close()
        self.heatmap.close()
        if self.owns_engine:
            self.engine.close()

    def __enter__(self) -> PreparedScan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
