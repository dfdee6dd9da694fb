"""Everything that is settled before a scan begins: frame, tissue, engine, store and plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_metastasis.errors import RegionError, ResolutionWarning, ScanCancelledError, StorageError
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.models import Model
from napari_metastasis.pipeline.folder import (
    default_output,
    folder_for,
    heatmap_path,
    scan_identity,
    stored_precision,
)
from napari_metastasis.scanning import (
    ChosenEngine,
    Engine,
    FinishedRoi,
    Heatmap,
    ScanPlan,
    choose_engine,
    never,
    plan_scan,
    scan,
)
from napari_metastasis.settings import ScanSettings, TissueSettings
from napari_metastasis.slides import Slide, TissueMask, reading_threads, tissue_mask

__all__ = ["PreparedScan", "prepare_scan"]


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

    def run(self, should_stop: Callable[[], bool] = never) -> Generator[FinishedRoi]:
        """Scan, and yield each finished ROI after it was stored; see :func:`napari_metastasis.scanning.scan`."""
        return scan(self.slide, self.engine, self.plan, self.heatmap, self.settings, should_stop=should_stop)

    def close(self) -> None:
        """Give engine and store back; a second call does nothing. The generator of :meth:`run` must be at its end."""
        self.heatmap.close()
        if self.owns_engine:
            self.engine.close()

    def __enter__(self) -> PreparedScan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def prepare_scan(
    slide: Slide,
    model: Model,
    *,
    scan: ScanSettings,
    tissue: TissueSettings,
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
    region
        Level-0 pixels to scan; ``None`` for the whole slide.
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
        If the model does not allow the dense coefficient.
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
    """
    notes = _notes(slide, model)
    for text in notes:
        warnings.warn(text, ResolutionWarning, stacklevel=2)
    frame = HeatmapFrame(
        model=slide.frame(model.spec.mpp),
        patch_px=model.spec.patch_px,
        stride_px=model.spec.dense_stride_px(scan.dense_coefficient),
    )
    wanted = Region.of(frame.cells) if region is None else frame.cells_over(_on_slide(region, slide))
    root = default_output(slide) if output is None else output
    # An explicit precision is obeyed, whatever lies there.
    going_on = stored_precision(root, scan_identity(slide, model, scan)) if scan.precision == "auto" else None
    with ExitStack() as on_error:
        owns_engine = chosen is None or going_on not in (None, chosen.engine.precision)
        if chosen is None or owns_engine:
            chosen = choose_engine(model, scan, preferred_precision=going_on, should_stop=should_stop)
            on_error.callback(chosen.engine.close)
        if mask is None:
            # Nothing runs on the engine yet, but readers share the machine's memory with it.
            threads = reading_threads(scan.threads, beside_network=chosen.engine.device == "cpu")
            mask = tissue_mask(slide, tissue, threads=threads, should_stop=should_stop)
        if mask is None:
            raise ScanCancelledError("expected to find the tissue first, but the scan was stopped; start it again")
        identity = scan_identity(slide, model, scan, precision=chosen.engine.precision)
        folder = folder_for(root, identity)
        heatmap = _open_heatmap(folder, frame, identity, is_default=output is None)
        on_error.callback(heatmap.close)
        plan = plan_scan(
            frame,
            wanted=wanted,
            tissue=mask.over(frame) if scan.tissue_only else None,
            done=heatmap.done,
            focus=focus,
            roi_px=chosen.roi_px,
        )
        on_error.pop_all()
    return PreparedScan(
        slide=slide,
        model=model,
        settings=scan,
        frame=frame,
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
    )


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
