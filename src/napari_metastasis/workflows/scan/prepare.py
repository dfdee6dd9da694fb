"""Settles what a scan needs before it begins: frame, tissue, engine, stores, plan and passes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from napari_metastasis.errors import (
    PassWarning,
    ResolutionWarning,
    ScanCancelledError,
    SlideWarning,
    StainWarning,
    StorageError,
)
from napari_metastasis.geometry import HeatmapFrame, Region, sparse_zeros
from napari_metastasis.models import Detector, Model, ScanModels, Segmenter
from napari_metastasis.models.inputs import input_of
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
    ScanPlan,
    Wanted,
    cells_around,
    never,
    plan_part,
    plan_scan,
)
from napari_metastasis.scanning.scanner import Reader
from napari_metastasis.settings import PUBLISHED_STAINS, TissueSettings
from napari_metastasis.slides import Slide, TissueMask, reading_threads, tissue_mask
from napari_metastasis.slides.stains import slide_stain_matrix, tissue_pixels
from napari_metastasis.storage import READ_ONLY, with_option
from napari_metastasis.tasks import find_task
from napari_metastasis.workflows.engine_cache import ReadyEngine
from napari_metastasis.workflows.scan.extent import Extent, on_slide
from napari_metastasis.workflows.scan.job_models import (
    check_passes,
    feature_reader,
    make_engine,
    own_thresholds,
    with_own_settings,
)
from napari_metastasis.workflows.scan.parts import answered_elsewhere, gather_parts
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.result_folder import (
    feature_path,
    folder_for,
    heatmap_path,
    known_identity,
    result_root,
    scan_identity,
    stored_precision,
)
from napari_metastasis.workflows.scan.shown import read_before
from napari_metastasis.workflows.scan.slide_stain import SlideStain, stain_notes
from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["prepare_scan"]


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
        The job's models, and an engine for them, which stays open when the scan is closed. Where the job leaves the
        precision open and the result folder holds a heatmap of another one, a new engine goes on with that.
    mask
        Where the tissue lies, if it was found with the same settings before; ``None`` to find it now.
    should_stop
        Asked while tissue is looked for and engines are measured.

    Raises
    ------
    RegionError
        If the region does not lie on the slide.
    ModelError
        If the model does not allow the dense coefficient, or a pass lacks its model or the map that it reads, or the
        stain is to be normalised to what a model does not say, or in a way that it cannot read.
    StainError
        If a model needs haematoxylin and eosin told apart, and they cannot be on this slide.
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
    SlideWarning
        If the slide's file holds more than is read, or says of itself what cannot be so.
    ResolutionWarning
        If the slide is coarser than what a model that looks at it was trained on.
    StainWarning
        If its stain is far from what such a model was trained on, or its red and blue look exchanged.
    PassWarning
        If a pass means less with these settings, or what is kept for it is damaged.
    """
    asked, job = job, with_own_settings(job, ready.models)
    settled = _Settled.of(slide, job, ready.models)
    with ExitStack() as on_error:
        chosen, owns_engine = _engine(settled, ready, should_stop)
        if owns_engine:
            on_error.callback(chosen.engine.close)
        tissue = _tissue(settled, chosen, job.tissue, should_stop) if mask is None else mask
        stains, of_dyes = _stains(settled, chosen, tissue, should_stop)
        of_stains = (*of_dyes, *stain_notes(stains.values()))
        for note in of_stains:
            warnings.warn(note, StainWarning, stacklevel=2)

        def seen_by(model: Model) -> Reader:
            return stains[model.task].reader(slide) if model.task in stains else slide

        heatmap = _open_heatmap(settled, chosen)
        on_error.callback(heatmap.close)
        features = _open_features(settled, heatmap)
        if features is not None:
            on_error.callback(features.close)
        gather_parts(heatmap, features, settled.parts, block=settled.extent.block)
        context = _context(settled, chosen, tissue, heatmap, features, seen_by, should_stop)
        with _naming_the_option(settled):
            prepared = _prepare_passes(settled.made, context, on_error)
            plan = _plan(settled, chosen, context, prepared)
            _refuse_what_cannot_be_stored(plan, heatmap, prepared)
        on_error.pop_all()
    return PreparedScan(
        job=job,
        slide=slide,
        models=ready.models,
        tissue=tissue,
        chosen=chosen,
        owns_engine=owns_engine,
        scan=DenseScan(seen_by(settled.detector), chosen.engine, plan, heatmap, job.scan, features),
        heatmap=heatmap,
        features=features,
        passes=prepared,
        own_thresholds=own_thresholds(asked, ready.models),
        stains=stains,
        notes=(*settled.notes, *of_stains, *_read_only(heatmap)),
    )


@dataclass(frozen=True, slots=True)
class _Settled:
    """What is known of a scan before an engine is made or a file is touched.

    Attributes
    ----------
    slide, job, detector
        What is scanned, how, and with what.
    passes
        Those that follow the scan.
    reader
        The model that reads the detector's features; ``None`` where there is none.
    looking
        The models that look at the slide's pixels in this scan.
    region
        Level-0 pixels on the slide; ``None`` for all of it.
    extent
        Which cells are answered.
    notes
        What has to be said of the results, also as warnings.
    """

    slide: Slide
    job: ScanJob
    detector: Detector
    passes: tuple[Pass, ...]
    reader: Model | None
    looking: tuple[Detector | Segmenter, ...]
    region: Region | None
    extent: Extent
    notes: tuple[str, ...]

    @classmethod
    def of(cls, slide: Slide, job: ScanJob, models: ScanModels) -> _Settled:
        detector, alpha = models.detector, job.scan.dense_coefficient
        passes = check_passes(job, models)
        of_passes = (each.looks for each in passes)
        looking = (*([detector] if job.detects else []), *(model for model in of_passes if model is not None))
        coarse = tuple(note for model in looking for note in _coarse_slide(slide, model))
        own = tuple(note for each in passes for note in each.notes(job.scan))
        for kind, notes in ((SlideWarning, slide.notes), (ResolutionWarning, coarse), (PassWarning, own)):
            for note in notes:
                warnings.warn(note, kind, stacklevel=3)
        spec = detector.spec
        frame = HeatmapFrame(model=slide.frame(spec.mpp), patch_px=spec.field_px, stride_px=spec.dense_stride_px(alpha))
        region = None if job.region is None else on_slide(job.region, slide)
        extent = Extent.of(frame, alpha, region, cells_around(passes))
        return cls(
            slide,
            job,
            detector,
            passes,
            feature_reader(job, models),
            looking,
            region,
            extent,
            (*slide.notes, *coarse, *own),
        )

    @property
    def root(self) -> Path:
        return result_root(self.slide, self.job)

    @property
    def parts(self) -> tuple[Path, ...]:
        """Return the folders of what other scans answered of the slide."""
        return answered_elsewhere(self.root, self.job.part)

    @property
    def made(self) -> tuple[Pass, ...]:
        """Return the passes that are made here: of a part of a slide those that need no more than the part."""
        return tuple(each for each in self.passes if self.job.part is None or each.is_divisible)


def _coarse_slide(slide: Slide, model: Detector | Segmenter) -> tuple[str, ...]:
    """Return what has to be said of a slide that is coarser than what a model was trained on."""
    frame, wanted = slide.frame(model.spec.mpp), model.spec.mpp
    if frame.scale >= 1:
        return ()
    return (
        f"expected a slide of at most {wanted:g} µm per pixel for {model.name}, got {slide.mpp:g}: it is enlarged "
        f"{1 / frame.scale:.3g} times and lacks what the model looks for; scan a finer slide where there is one",
    )


def _engine(settled: _Settled, ready: ReadyEngine, should_stop: Callable[[], bool]) -> tuple[ChosenEngine, bool]:
    """Return the engine, and whether it was made for this scan alone."""
    job = settled.job
    going_on = stored_precision(settled.slide, job, settled.detector)
    if going_on in (None, ready.chosen.engine.precision) and ready.chosen.encodes_for(settled.reader):
        return ready.chosen, False
    return make_engine(job, ready.models, preferred_precision=going_on, should_stop=should_stop), True


def _tissue(
    settled: _Settled, chosen: ChosenEngine, settings: TissueSettings, should_stop: Callable[[], bool]
) -> TissueMask:
    """Find the tissue."""
    # Nothing runs on the engine yet, but readers share the machine's memory with it.
    threads = reading_threads(settled.job.scan.threads, beside_network=chosen.engine.device == "cpu")
    found = tissue_mask(settled.slide, settings, threads=threads, should_stop=should_stop)
    if found is None:
        raise ScanCancelledError("expected to find the tissue first, but the scan was stopped; start it again")
    return found


def _stains(
    settled: _Settled, chosen: ChosenEngine, tissue: TissueMask, should_stop: Callable[[], bool]
) -> tuple[dict[str, SlideStain], tuple[str, ...]]:
    """Return the slide's stain as each model that looks at it sees it, by the model's task, and what is said of it.

    It follows from the slide alone: a scan goes on with other tissue settings.
    """
    job, usual = settled.job, TissueSettings()
    if job.tissue != usual and any(
        model.spec.stain_density or input_of(model.spec, job.scan.stain).needs_stains for model in settled.looking
    ):
        tissue = _tissue(settled, chosen, usual, should_stop)
    slide = settled.slide
    inputs = [input_of(one.spec, job.scan.stain) for one in settled.looking]
    dyes, notes = _dyes(settled, tissue) if any(one.needs_stains for one in inputs) else ((), ())
    pixels = {mpp: tissue_pixels(slide, slide.frame(mpp), tissue) for mpp in {one.spec.mpp for one in settled.looking}}
    return {one.task: SlideStain.of(pixels[one.spec.mpp], one.spec, job.scan, dyes) for one in settled.looking}, notes


def _dyes(settled: _Settled, tissue: TissueMask) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the slide's dyes, eight numbers; those of the published reference, and a note, where there is no tissue.

    Of tissue whose dyes cannot be told nothing is made up: it is refused.
    """
    if not tissue.mask.any():
        note = (
            "expected tissue to tell haematoxylin from eosin by, got none: what is read is read with the dyes of the "
            "published reference"
        )
        return PUBLISHED_STAINS, (note,)
    asked = settled.job.scan.stain == "macenko"
    remedy = "scan with --stain as-is" if asked else "scan with a model that reads colours as they are"
    return slide_stain_matrix(settled.slide, tissue, remedy=remedy).numbers, ()


def _open_heatmap(settled: _Settled, chosen: ChosenEngine) -> MapStore:
    """Return the scan's own map, opened for writing."""
    job = settled.job
    wanted = scan_identity(settled.slide, settled.detector, job.scan, precision=chosen.engine.precision)
    identity = known_identity(settled.root, settled.slide, wanted)
    header = MapHeader(kind=PROBABILITY, frame=settled.extent.frame, identity=identity)
    with _naming_the_option(settled):
        return MapStore.open_or_create(heatmap_path(folder_for(settled.root, identity)), header)


@contextmanager
def _naming_the_option(settled: _Settled) -> Iterator[None]:
    """Let an error of the result folder say how another one is chosen."""
    try:
        yield
    except StorageError as error:
        # Whoever chose a folder knows how; but that a scan there cannot go on is met long after it was chosen.
        if settled.job.output is not None and error.errno not in READ_ONLY:
            raise
        raise with_option(error) from error


def _read_only(heatmap: MapStore) -> tuple[str, ...]:
    """Return what has to be said of a finished scan on a disk that takes no results."""
    if heatmap.refusal is None:
        return ()
    return (
        f"expected to write results to {heatmap.path.parent}, got a read-only disk; nothing is written, what was "
        "found there before is shown",
    )


def _refuse_what_cannot_be_stored(plan: ScanPlan, heatmap: MapStore, prepared: tuple[PreparedPass, ...]) -> None:
    """Refuse to go on with a scan on a read-only disk; one that is finished can be read all the same."""
    unfinished = [one.store for one in prepared if not one.finished]
    for store in (*([heatmap] if plan.rois else []), *unfinished):
        if store.refusal is not None:
            raise store.refusal


def _open_features(settled: _Settled, heatmap: MapStore) -> FeatureStore | None:
    """Return the store of what a model reads of this scan; ``None`` where it is damaged and nobody reads it now."""
    reader, extent, job = settled.reader, settled.extent, settled.job
    if reader is None or heatmap.refusal is not None:
        return None
    # The key is as old as the first model that read features.
    identity = {**heatmap.identity, "refiner_sha256": reader.weights_sha256}
    request = next(one for one in job.passes if one.task == reader.task)
    try:
        return FeatureStore.open_or_create(
            feature_path(heatmap.path.parent, identity),
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


def _context(
    settled: _Settled,
    chosen: ChosenEngine,
    tissue: TissueMask,
    heatmap: MapStore,
    features: FeatureStore | None,
    seen_by: Callable[[Model], Reader],
    should_stop: Callable[[], bool],
) -> PassContext:
    job, minds_tissue = settled.job, settled.job.scan.tissue_only
    return PassContext(
        slide=settled.slide,
        seen_by=seen_by,
        detector=settled.detector,
        settings=job.scan,
        folder=heatmap.path.parent,
        identity=heatmap.identity,
        frame=heatmap.frame,
        region=settled.region,
        outlines=job.outlines,
        around=cells_around(settled.passes),
        focus=job.focus,
        tissue=tissue.over(heatmap.frame) if minds_tissue else None,
        tissue_over=tissue.over,
        tissue_settings=job.tissue if minds_tissue else None,
        device="cpu" if chosen.engine.name == "openvino" else chosen.engine.device.partition(",")[0],
        maps={PROBABILITY.name: heatmap, **({} if job.reads_lesions else read_before(heatmap.path.parent))},
        features=features,
        should_stop=should_stop,
        part=job.part,
        parts=settled.parts,
    )


def _prepare_passes(passes: tuple[Pass, ...], context: PassContext, on_error: ExitStack) -> tuple[PreparedPass, ...]:
    """Return the passes ready to run; each may read the maps of those before it."""
    prepared: list[PreparedPass] = []
    for each in passes:
        one = each.prepare(context)
        on_error.callback(one.close)
        prepared.append(one)
        context = replace(context, maps={**context.maps, each.writes.name: one.store})
    return tuple(prepared)


def _plan(
    settled: _Settled, chosen: ChosenEngine, context: PassContext, prepared: tuple[PreparedPass, ...]
) -> ScanPlan:
    """Return which cells the network looks at: those without an answer, and those whose features a pass lacks."""
    extent = settled.extent
    wanted, done = extent.kept, context.maps[PROBABILITY.name].done
    if not settled.job.detects:
        # Where nothing shows tissue nothing is looked at.
        nothing = sparse_zeros(context.frame.cells.shape)
        return plan_scan(context.frame, Wanted(cells=wanted, tissue=nothing), roi_px=chosen.roi_px)
    if settled.job.part is None:
        pairs = zip(settled.passes, prepared, strict=True)
        lacks = any(each.reads == FEATURES and not one.finished for each, one in pairs)
    else:
        lacks = any(each.reads == FEATURES for each in settled.passes)
    if lacks and context.features is not None:
        wanted, done = extent.scanned, extent.encoded(done, context.features)
    return plan_part(
        context.frame,
        Wanted(cells=wanted, keep=extent.kept, tissue=context.tissue, done=done, focus=context.focus),
        settled.job.part,
        roi_px=chosen.roi_px,
        # Also where nobody takes the features: the network averages them.
        block=extent.block if chosen.reader_sha256 else 1,
    )
