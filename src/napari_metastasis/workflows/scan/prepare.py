"""Everything that is settled before a scan begins: frame, tissue, engine, store and plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastasis.errors import (
    ModelError,
    RefinementWarning,
    RegionError,
    ResolutionWarning,
    ScanCancelledError,
    StorageError,
)
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.models import Model, Refiner
from napari_metastasis.scanning import (
    BoolArray,
    ChosenEngine,
    FeatureStore,
    Heatmap,
    any_of_blocks,
    choose_engine,
    never,
    plan_scan,
)
from napari_metastasis.settings import NOT_REFINED, RefineSettings, ScanSettings, TissueSettings
from napari_metastasis.slides import Slide, TissueMask, reading_threads, tissue_mask
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.refinement import feature_path, prepare_refinement, refined_identity
from napari_metastasis.workflows.scan.result_folder import (
    default_output,
    folder_for,
    heatmap_path,
    scan_identity,
    stored_precision,
)

__all__ = ["check_refiner", "prepare_scan"]


def prepare_scan(
    slide: Slide,
    model: Model,
    *,
    scan: ScanSettings,
    tissue: TissueSettings,
    refiner: Refiner | None = None,
    refine: RefineSettings = NOT_REFINED,
    region: Region | None = None,
    focus: Point | None = None,
    output: Path | None = None,
    mask: TissueMask | None = None,
    chosen: ChosenEngine | None = None,
    should_stop: Callable[[], bool] = never,
) -> PreparedScan:
    """Settle everything that a scan needs. Nothing is written unless all of it is in order.

    Parameters
    ----------
    slide, model
        To scan, and with what.
    scan, tissue
        How.
    refiner
        The refiner that was trained on the model's features; ``None`` where there is none, and none is asked for.
    refine
        Whether the map is refined, and encoded patches are kept.
    region
        Level-0 pixels to scan; ``None`` for the whole slide. Where it is refined, as much around it is encoded as has a
        say in it; nothing outside is answered.
    focus
        Level-0 location to begin at; ``None`` for the middle.
    output
        Result folder; ``None`` for :func:`default_output`. Where it holds a heatmap of other settings, the results go
        to a folder of their own inside.
    mask
        Where the tissue lies, if it was found with the same settings before; ``None`` to find it now.
    chosen
        The engine of an earlier scan with the same model, density, device, engine and precision, which saves making it
        again; it stays open when the scan is closed. ``None`` to make one. Where the precision was left open and the
        result folder holds a heatmap of another, an engine is made to go on with that.
    should_stop
        Asked while the tissue is being found, which takes long on a slide without a pyramid, and while engines are
        being measured.

    Raises
    ------
    RegionError
        If the region does not lie on the slide.
    ModelError
        If the model does not allow the dense coefficient, or the refiner belongs to another model.
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
    RefinementWarning
        If the refiner was trained at another dense coefficient, or what is kept for refining is damaged.
    """
    notes = _notes(slide, model)
    for text in notes:
        warnings.warn(text, ResolutionWarning, stacklevel=2)
    check_refiner(model, refiner, refine)
    if refiner is not None and refine.refine and refiner.spec.dense_coefficient != scan.dense_coefficient:
        trained = refiner.spec.dense_coefficient
        text = (
            f"expected dense coefficient {trained}, which {refiner.spec.name} was trained at, got "
            f"{scan.dense_coefficient}: it refines less well; scan with --dense-coefficient {trained}"
        )
        warnings.warn(text, RefinementWarning, stacklevel=2)
        notes = (*notes, text)
    keeps = refiner if refine.encodes else None
    where = _Where.of(slide, model, scan, region, keeps if refine.refine else None)
    root = default_output(slide) if output is None else output
    # An explicit precision is obeyed, whatever lies there.
    going_on = stored_precision(root, scan_identity(slide, model, scan)) if scan.precision == "auto" else None
    with ExitStack() as on_error:
        owns_engine = chosen is None or going_on not in (None, chosen.engine.precision) or not chosen.encodes_for(keeps)
        if chosen is None or owns_engine:
            chosen = choose_engine(model, scan, refiner=keeps, preferred_precision=going_on, should_stop=should_stop)
            on_error.callback(chosen.engine.close)
        if mask is None:
            # Nothing runs on the engine yet, but readers share the machine's memory with it.
            threads = reading_threads(scan.threads, beside_network=chosen.engine.device == "cpu")
            mask = tissue_mask(slide, tissue, threads=threads, should_stop=should_stop)
        if mask is None:
            raise ScanCancelledError("expected to find the tissue first, but the scan was stopped; start it again")
        identity = scan_identity(slide, model, scan, precision=chosen.engine.precision)
        folder = folder_for(root, identity)
        heatmap = _open_heatmap(folder, where.frame, identity, is_default=output is None)
        on_error.callback(heatmap.close)
        shows = mask.over(where.frame) if scan.tissue_only else None
        features = None if keeps is None else _open_features(folder, where, identity, keeps, scan, refine)
        if features is not None:
            on_error.callback(features.close)
        refinement = None
        if features is not None and keeps is not None and refine.refine:
            refinement = prepare_refinement(
                keeps,
                features,
                folder=folder,
                frame=where.native,
                identity=refined_identity(identity, keeps, tissue if scan.tissue_only else None),
                wanted=where.refined,
                tissue=None if shows is None else any_of_blocks(shows, where.block),
                focus=focus,
                device="cpu" if chosen.engine.name == "openvino" else chosen.engine.device.partition(",")[0],
            )
            on_error.callback(refinement.close)
        done, wanted = heatmap.done, where.asked
        if refinement is not None and refinement.plan.blocks:
            # Around the region patches are encoded, and their answers are nobody's question.
            done |= where.beside()
            done &= where.encoded(refinement.features)
            wanted = where.scanned
        plan = plan_scan(
            where.frame,
            wanted=wanted,
            tissue=shows,
            done=done,
            focus=focus,
            roi_px=chosen.roi_px,
            # Also where nobody takes the features: the network averages them.
            block=where.block if chosen.refiner_sha256 else 1,
            keep=where.asked,
        )
        on_error.pop_all()
    return PreparedScan(
        slide=slide,
        model=model,
        settings=scan,
        frame=where.frame,
        tissue=mask,
        tissue_settings=tissue,
        engine=chosen.engine,
        roi_px=chosen.roi_px,
        owns_engine=owns_engine,
        heatmap=heatmap,
        plan=plan,
        region=region,
        folder=folder,
        notes=notes,
        features=features,
        refinement=refinement,
        refine=refine,
    )


@dataclass(frozen=True, slots=True)
class _Where:
    """Which cells of both maps a scan is about.

    Attributes
    ----------
    frame, native
        Of the scan's cells, and of the native ones that are refined.
    asked, refined
        The scan's cells that are answered, and native cells that are refined.
    scanned
        The scan's cells that have a say in either.
    block
        The scan's cells along a side of a native one.
    """

    frame: HeatmapFrame
    native: HeatmapFrame
    asked: Region
    refined: Region
    scanned: Region
    block: int

    @classmethod
    def of(
        cls, slide: Slide, model: Model, scan: ScanSettings, region: Region | None, refiner: Refiner | None
    ) -> _Where:
        spec, pixels = model.spec, slide.frame(model.spec.mpp)
        alpha = scan.dense_coefficient
        frame = HeatmapFrame(model=pixels, patch_px=spec.patch_px, stride_px=spec.dense_stride_px(alpha))
        native = HeatmapFrame(model=pixels, patch_px=spec.patch_px, stride_px=spec.stride_px)
        if region is None:
            whole = Region.of(frame.cells)
            return cls(frame, native, whole, Region.of(native.cells), whole, alpha)
        on_slide = _on_slide(region, slide)
        asked, refined = frame.cells_over(on_slide), native.cells_over(on_slide)
        scanned = asked
        if refiner is not None:
            # Or a cell at the region's edge would be refined with fewer neighbours than in a scan of the whole slide.
            near = refined.grown(refiner.spec.reach_cells).intersection(Region.of(native.cells))
            dense = Region(near.x * alpha, near.y * alpha, near.width * alpha, near.height * alpha)
            scanned = dense.intersection(Region.of(frame.cells))
        return cls(frame, native, asked, refined, scanned, alpha)

    def beside(self) -> BoolArray:
        """Return which of the scan's cells nobody asked for, bool (rows, columns)."""
        beside = np.ones(self.frame.cells.shape, np.bool_)
        beside[self.asked.slices] = False
        return beside

    def encoded(self, features: FeatureStore) -> BoolArray:
        """Return which of the scan's cells have features, bool (rows, columns)."""
        repeated = features.present.repeat(self.block, axis=0).repeat(self.block, axis=1)
        rows, columns = self.frame.cells.shape
        return repeated[:rows, :columns]


def check_refiner(model: Model, refiner: Refiner | None, refine: RefineSettings) -> None:
    """Refuse to refine without a refiner, or with one of another model.

    Raises
    ------
    ModelError
        If it is so.
    """
    if refiner is None and refine.refine:
        raise ModelError(f"expected a refiner for {model.spec.name}, got none; train one, or scan without --refine")
    if refiner is not None:
        refiner.check(model)


def _open_features(
    folder: Path,
    where: _Where,
    identity: Mapping[str, Any],
    refiner: Refiner,
    scan: ScanSettings,
    refine: RefineSettings,
) -> FeatureStore | None:
    """Return the store of what this refiner reads of this scan; ``None`` where it is damaged and nobody refines."""
    whole = {**identity, "refiner_sha256": refiner.weights_sha256}
    try:
        return FeatureStore.open_or_create(
            feature_path(folder, whole),
            cells=where.native.cells,
            views=scan.augment_views,
            features=refiner.spec.features,
            identity=whole,
            keep=refine.keep_features,
        )
    except StorageError as error:
        if refine.refine:
            raise
        warnings.warn(f"{error}; this scan is not kept for refining", RefinementWarning, stacklevel=3)
        return None


def _notes(slide: Slide, model: Model) -> tuple[str, ...]:
    """Return what has to be said of a scan beforehand."""
    frame, wanted = slide.frame(model.spec.mpp), model.spec.mpp
    if frame.scale >= 1:
        return ()
    return (
        f"expected a slide of at most {wanted:g} µm per pixel for {model.spec.name}, got {slide.mpp:g}: it is enlarged "
        f"{1 / frame.scale:.3g} times and lacks what the model looks for; scan a finer slide where there is one",
    )


def _on_slide(region: Region, slide: Slide) -> Region:
    """Return the part of a region that lies on the slide."""
    inside = region.intersection(Region.of(slide.size))
    if inside.is_empty:
        raise RegionError(
            f"expected a region on the slide ({slide.size.width} x {slide.size.height} px at level 0), got {region}; "
            "choose one inside, or scan the whole slide"
        )
    return inside


def _open_heatmap(folder: Path, frame: HeatmapFrame, identity: Mapping[str, Any], *, is_default: bool) -> Heatmap:
    try:
        return Heatmap.open_or_create(heatmap_path(folder), frame=frame, identity=identity)
    except StorageError as error:
        if not is_default:
            raise
        # Nobody chose the folder beside the slide: say how to choose another one.
        named = StorageError(f"{error} with --output")
        named.errno = error.errno
        raise named from error
