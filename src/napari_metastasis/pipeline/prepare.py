"""Everything that is settled before a scan begins: frame, tissue, engine, store and plan."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from napari_metastasis.errors import RegionError, ScanCancelledError, StorageError
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.models import Model
from napari_metastasis.scanning import (
    HEATMAP_VERSION,
    ChosenEngine,
    Engine,
    FinishedRoi,
    Heatmap,
    ScanPlan,
    choose_engine,
    digest,
    never,
    plan_scan,
    read_header,
    scan,
)
from napari_metastasis.settings import ScanSettings, TissueSettings
from napari_metastasis.slides import Slide, TissueMask, tissue_mask

__all__ = ["PreparedScan", "default_output", "heatmap_path", "prepare_scan", "scan_identity"]

_HEATMAP_NAME = "heatmap.ome.zarr"


def default_output(slide: Slide) -> Path:
    """Return where a slide's results go unless told otherwise: ``<slide name>.metastasis`` beside it."""
    return slide.path.parent / f"{slide.name}.metastasis"


def heatmap_path(folder: Path) -> Path:
    """Return where the heatmap of a result folder lies."""
    return folder / _HEATMAP_NAME


def scan_identity(slide: Slide, model: Model, settings: ScanSettings, *, precision: str) -> dict[str, Any]:
    """Return everything that decides a heatmap's answers, as plain values.

    Region, tissue, ROI size, threads, engine, device and order are not among them: the answers do not depend on them,
    so that a scan may go on with others.
    """
    return {
        "heatmap_version": HEATMAP_VERSION,
        "slide": slide.fingerprint,
        "mpp": slide.mpp,
        "effective_mpp": slide.frame(model.spec.mpp).effective_mpp,
        "model": model.spec.name,
        "weights_sha256": model.weights_sha256,
        "dense_coefficient": settings.dense_coefficient,
        "augment_views": settings.augment_views,
        "precision": precision,
    }


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
        again; it stays open when the scan is closed. ``None`` to make one.
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
    """
    frame = HeatmapFrame(
        model=slide.frame(model.spec.mpp),
        patch_px=model.spec.patch_px,
        stride_px=model.spec.dense_stride_px(scan.dense_coefficient),
    )
    wanted = Region.of(frame.cells) if region is None else frame.cells_over(_on_slide(region, slide))
    if mask is None:
        mask = tissue_mask(slide, tissue, threads=scan.threads, should_stop=should_stop)
    if mask is None:
        raise ScanCancelledError("expected to find the tissue first, but the scan was stopped; start it again")
    with ExitStack() as on_error:
        owns_engine = chosen is None
        if chosen is None:
            chosen = choose_engine(model, scan, should_stop=should_stop)
            on_error.callback(chosen.engine.close)
        identity = scan_identity(slide, model, scan, precision=chosen.engine.precision)
        folder = _folder_for(default_output(slide) if output is None else output, identity)
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


def _folder_for(root: Path, identity: Mapping[str, Any]) -> Path:
    """Return ``root``, or a folder of its own inside where ``root`` holds the heatmap of another scan."""
    path = heatmap_path(root)
    if not path.exists():
        return root
    try:
        _, stored = read_header(path)
    except StorageError:
        # Not one of ours, or of another version: it is left alone.
        stored = {}
    wanted = digest(identity)
    return root if digest(stored) == wanted else root / f"scan-{wanted[:8]}"


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
