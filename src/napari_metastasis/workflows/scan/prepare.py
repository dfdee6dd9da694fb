"""Everything that is settled before a scan begins: frame, tissue, engine, stores, plan and passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_metastasis.errors import ModelError, PassWarning, ResolutionWarning, ScanCancelledError, StorageError
from napari_metastasis.geometry import HeatmapFrame
from napari_metastasis.models import Detector, Model, ScanModels
from napari_metastasis.scanning import (
    FEATURES,
    PROBABILITY,
    ChosenEngine,
    DenseScan,
    FeatureStore,
    MapHeader,
    MapStore,
    Pass,
    PassContext,
    PreparedPass,
    Wanted,
    choose_engine,
    never,
    plan_scan,
)
from napari_metastasis.slides import Slide, TissueMask, reading_threads, tissue_mask
from napari_metastasis.tasks import find_task, resolve
from napari_metastasis.workflows.engine_cache import ReadyEngine
from napari_metastasis.workflows.scan.extent import Extent, on_slide
from napari_metastasis.workflows.scan.job_models import feature_reader
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.result_folder import (
    default_output,
    feature_path,
    folder_for,
    heatmap_path,
    scan_identity,
    stored_precision,
)
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["check_passes", "prepare_scan"]


def prepare_scan(
    slide: Slide,
    job: ScanJob,
    ready: ReadyEngine,
    *,
    mask: TissueMask | None = None,
    should_stop: Callable[[], bool] = never,
) -> PreparedScan:
    """Settle everything that a scan needs. Nothing is written unless all of it is in order.

    Parameters
    ----------
    slide
        The open slide of the job.
    job
        What to do.
    ready
        The job's models, and an engine for them; it stays open when the scan is closed. Where the precision was left
        open and the result folder holds a heatmap of another, an engine is made to go on with that.
    mask
        Where the tissue lies, if it was found with the same settings before; ``None`` to find it now.
    should_stop
        Asked while the tissue is being found, which takes long on a slide without a pyramid, and while engines are
        being measured.

    Raises
    ------
    RegionError
        If the region does not lie on the slide.
    ModelError
        If the model does not allow the dense coefficient, or a pass lacks its model.
    SettingsError, DeviceError, MissingDependencyError
        If the device or the engine cannot be had.
    SlideError
        If the slide cannot be read.
    StorageError
        If the result folder cannot be written.
    ScanCancelledError
        If ``should_stop`` said so.

    Warns
    -----
    ResolutionWarning
        If the slide is coarser than what the model was trained on.
    PassWarning
        If a pass means less with these settings, or what is kept for it is damaged.
    """
    models = ready.models
    detector = models.detector
    passes = check_passes(job, models)
    reader = feature_reader(job, models)
    coarse = _coarse_slide(slide, detector)
    about_passes = tuple(note for each in passes for note in each.notes(job.scan))
    for kind, notes in ((ResolutionWarning, coarse), (PassWarning, about_passes)):
        for note in notes:
            warnings.warn(note, kind, stacklevel=2)
    frame = _frame(slide, detector, job)
    region = None if job.region is None else on_slide(job.region, slide)
    extent = Extent.of(frame, job.scan.dense_coefficient, region, passes)
    root = default_output(slide) if job.output is None else job.output
    with ExitStack() as on_error:
        chosen, owns_engine = _engine(slide, job, ready, reader, root, should_stop)
        if owns_engine:
            on_error.callback(chosen.engine.close)
        if mask is None:
            # Nothing runs on the engine yet, but readers share the machine's memory with it.
            threads = reading_threads(job.scan.threads, beside_network=chosen.engine.device == "cpu")
            mask = tissue_mask(slide, job.tissue, threads=threads, should_stop=should_stop)
        if mask is None:
            raise ScanCancelledError("expected to find the tissue first, but the scan was stopped; start it again")
        stores = _Stores.open(slide, job, detector, chosen, frame, root)
        on_error.callback(stores.heatmap.close)
        shows = mask.over(frame) if job.scan.tissue_only else None
        features = None if reader is None else _open_features(stores, job, reader, extent)
        if features is not None:
            on_error.callback(features.close)
        context = PassContext(
            slide=slide,
            detector=detector,
            settings=job.scan,
            folder=stores.folder,
            identity=stores.identity,
            frame=frame,
            region=region,
            focus=job.focus,
            tissue=shows,
            tissue_settings=job.tissue if job.scan.tissue_only else None,
            device="cpu" if chosen.engine.name == "openvino" else chosen.engine.device.partition(",")[0],
            maps={PROBABILITY.name: stores.heatmap},
            features=features,
        )
        prepared = _prepare_passes(passes, context, on_error)
        wanted, done = extent.kept, stores.heatmap.done
        if features is not None and _reads_features(passes, prepared):
            wanted, done = extent.left_to_scan(done, features)
        plan = plan_scan(
            frame,
            Wanted(cells=wanted, keep=extent.kept, tissue=shows, done=done, focus=job.focus),
            roi_px=chosen.roi_px,
            # Also where nobody takes the features: the network averages them.
            block=extent.block if chosen.reader_sha256 else 1,
        )
        on_error.pop_all()
    return PreparedScan(
        job=job,
        slide=slide,
        models=models,
        tissue=mask,
        chosen=chosen,
        owns_engine=owns_engine,
        scan=DenseScan(slide, chosen.engine, plan, stores.heatmap, job.scan, features),
        heatmap=stores.heatmap,
        features=features,
        passes=prepared,
        folder=stores.folder,
        notes=(*coarse, *about_passes),
    )


def check_passes(job: ScanJob, models: ScanModels) -> tuple[Pass, ...]:
    """Return the passes that a job wants, made of their models.

    Raises
    ------
    ModelError
        If one lacks its model, or has one that does not follow the detector.
    """
    found: list[Pass] = []
    for request in job.passes:
        model = models.others.get(request.task)
        if model is not None:
            model.check(models.detector)
        if not request.settings.wanted:
            continue
        task = find_task(request.task)
        if model is None:
            raise ModelError(
                f"expected a {task.noun} for {models.detector.name}, got none; train one, or scan without "
                f"--{request.task}"
            )
        found.append(resolve(task.scan_pass).of(model, request.settings))
    return tuple(found)


def _frame(slide: Slide, detector: Detector, job: ScanJob) -> HeatmapFrame:
    spec = detector.spec
    stride_px = spec.dense_stride_px(job.scan.dense_coefficient)
    return HeatmapFrame(model=slide.frame(spec.mpp), patch_px=spec.patch_px, stride_px=stride_px)


def _coarse_slide(slide: Slide, detector: Detector) -> tuple[str, ...]:
    """Return what has to be said of a slide that is coarser than what the detector was trained on."""
    frame, wanted = slide.frame(detector.spec.mpp), detector.spec.mpp
    if frame.scale >= 1:
        return ()
    return (
        f"expected a slide of at most {wanted:g} µm per pixel for {detector.name}, got {slide.mpp:g}: it is enlarged "
        f"{1 / frame.scale:.3g} times and lacks what the model looks for; scan a finer slide where there is one",
    )


def _engine(
    slide: Slide,
    job: ScanJob,
    ready: ReadyEngine,
    reader: Model | None,
    root: Path,
    should_stop: Callable[[], bool],
) -> tuple[ChosenEngine, bool]:
    """Return the engine, and whether it was made for this scan alone."""
    chosen, detector = ready.chosen, ready.models.detector
    # An explicit precision is obeyed, whatever lies there.
    is_open = job.scan.precision == "auto"
    going_on = stored_precision(root, scan_identity(slide, detector, job.scan)) if is_open else None
    if going_on in (None, chosen.engine.precision) and chosen.encodes_for(reader):
        return chosen, False
    made = choose_engine(detector, job.scan, reader=reader, preferred_precision=going_on, should_stop=should_stop)
    return made, True


@dataclass(frozen=True, slots=True)
class _Stores:
    """Where a scan's results go.

    Attributes
    ----------
    folder
        The result folder.
    identity
        Everything that decides the heatmap.
    heatmap
        The scan's own map, opened for writing.
    """

    folder: Path
    identity: dict[str, Any]
    heatmap: MapStore

    @classmethod
    def open(
        cls, slide: Slide, job: ScanJob, detector: Detector, chosen: ChosenEngine, frame: HeatmapFrame, root: Path
    ) -> _Stores:
        identity = scan_identity(slide, detector, job.scan, precision=chosen.engine.precision)
        folder = folder_for(root, identity)
        header = MapHeader(kind=PROBABILITY, frame=frame, identity=identity)
        try:
            return cls(folder, identity, MapStore.open_or_create(heatmap_path(folder), header))
        except StorageError as error:
            if job.output is not None:
                raise
            # Nobody chose the folder beside the slide: say how to choose another one.
            named = StorageError(f"{error} with --output")
            named.errno = error.errno
            raise named from error


def _open_features(stores: _Stores, job: ScanJob, reader: Model, extent: Extent) -> FeatureStore | None:
    """Return the store of what a model reads of this scan; ``None`` where it is damaged and nobody reads it now."""
    # The key is as old as the first model that read features.
    identity = {**stores.identity, "refiner_sha256": reader.weights_sha256}
    request = next(one for one in job.passes if one.task == reader.task)
    try:
        return FeatureStore.open_or_create(
            feature_path(stores.folder, identity),
            cells=extent.frame.coarser(extent.block).cells,
            views=job.scan.augment_views,
            features=reader.spec.features,
            identity=identity,
            keep=request.settings.keeps_features,
        )
    except StorageError as error:
        if request.settings.wanted:
            raise
        noun = find_task(reader.task).noun
        warnings.warn(f"{error}; what a {noun} reads of this scan is not kept", PassWarning, stacklevel=3)
        return None


def _prepare_passes(passes: tuple[Pass, ...], context: PassContext, on_error: ExitStack) -> tuple[PreparedPass, ...]:
    """Return the passes ready to run; each may read the maps of those before it."""
    prepared: list[PreparedPass] = []
    for each in passes:
        one = each.prepare(context)
        on_error.callback(one.close)
        prepared.append(one)
        context = replace(context, maps={**context.maps, each.writes.name: one.store})
    return tuple(prepared)


def _reads_features(passes: tuple[Pass, ...], prepared: tuple[PreparedPass, ...]) -> bool:
    """Return whether some pass has anything left to answer from features."""
    return any(each.reads == FEATURES and one.model_px for each, one in zip(passes, prepared, strict=True))
