"""The whole way in one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from napari_metastasis.geometry import Point, Region
from napari_metastasis.models import Model, Refiner
from napari_metastasis.scanning import ChosenEngine, never
from napari_metastasis.settings import NOT_REFINED, DetectionSettings, RefineSettings, ScanSettings, TissueSettings
from napari_metastasis.slides import Slide
from napari_metastasis.workflows.scan.prepare import prepare_scan
from napari_metastasis.workflows.scan.results import ScanResult, write_results

__all__ = ["scan_slide"]


def scan_slide(
    slide: Slide,
    model: Model,
    *,
    scan: ScanSettings,
    tissue: TissueSettings,
    detection: DetectionSettings,
    refiner: Refiner | None = None,
    refine: RefineSettings = NOT_REFINED,
    region: Region | None = None,
    focus: Point | None = None,
    output: Path | None = None,
    chosen: ChosenEngine | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> ScanResult:
    """Scan a slide, read the lesions off its heatmap and write the result folder.

    Parameters
    ----------
    slide, model, scan, tissue, refiner, refine, region, focus, output, chosen
        See :func:`~napari_metastasis.workflows.scan.prepare_scan`.
    detection
        How lesions are read off the heatmap.
    progress
        Called with the model pixels answered and those of the whole scan, before the first ROI and after each.
    should_stop
        Asked several times a second. The results then hold what was answered until now, and the next scan goes on.

    Raises
    ------
    MetastasisError
        As :func:`~napari_metastasis.workflows.scan.prepare_scan` and :func:`napari_metastasis.scanning.scan` do.
    """
    with prepare_scan(
        slide,
        model,
        scan=scan,
        tissue=tissue,
        refiner=refiner,
        refine=refine,
        region=region,
        focus=focus,
        output=output,
        chosen=chosen,
        should_stop=should_stop,
    ) as prepared:
        done, total = 0, prepared.model_px
        if progress is not None:
            progress(done, total)
        begun = time.perf_counter()
        model_px = 0
        with closing(prepared.run(should_stop)) as finished:
            for piece in finished:
                done = piece.done
                model_px += 0 if piece.refined else piece.model_px
                if progress is not None:
                    progress(done, total)
        return write_results(prepared, detection, seconds=time.perf_counter() - begun, model_px=model_px)
