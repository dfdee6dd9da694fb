"""What runs beside the window for one slide, as generators that know neither Qt nor napari."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_metastasis._napari.engine_cache import EngineCache, await_future
from napari_metastasis._napari.session import RefinedMap
from napari_metastasis.geometry import HeatmapFrame, Point, Region
from napari_metastasis.settings import DetectionSettings, RefineSettings, ScanSettings, TissueSettings

if TYPE_CHECKING:
    from napari_metastasis.lesions import LesionIndex
    from napari_metastasis.models import ModelSpec
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan import PreparedScan

__all__ = [
    "AvailableModels",
    "EarlierResult",
    "ScanRequest",
    "ScanStarted",
    "Stage",
    "available_models_work",
    "index_work",
    "load_earlier_work",
    "scan_work",
    "tissue_work",
    "warm_up_work",
]

ShouldStop = Callable[[], bool]
ProbabilityArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """What the form asks for.

    Attributes
    ----------
    model
        Name in the zoo, or path of the weights.
    region
        Level-0 pixels; ``None`` for the whole slide.
    focus
        Level-0 location to begin at: the middle of the window.
    scan, tissue, detection, refine
        Settings.
    output
        Folder for the results; ``None`` for the one beside the slide.
    """

    model: str
    region: Region | None
    focus: Point
    scan: ScanSettings
    tissue: TissueSettings
    detection: DetectionSettings
    refine: RefineSettings
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What is done now, as one short line."""

    text: str


@dataclass(frozen=True, slots=True)
class ScanStarted:
    """A scan is about to run.

    Attributes
    ----------
    frame
        Where its cells lie.
    probabilities
        float32, of shape ``frame.cells``: what earlier scans found already, NaN elsewhere.
    folder
        Where results go.
    model_name
        Of the model.
    engine
        What runs the network, for a person.
    tissue
        Where the slide holds tissue.
    model_px
        Model pixels to be answered.
    refined
        The refined map as it is; ``None`` where the scan is not refined.
    """

    frame: HeatmapFrame
    probabilities: ProbabilityArray
    folder: Path
    model_name: str
    engine: str
    tissue: TissueMask
    model_px: int
    refined: RefinedMap | None


@dataclass(frozen=True, slots=True)
class EarlierResult:
    """A heatmap that an earlier scan left beside the slide, and its refined map where it has one."""

    frame: HeatmapFrame
    probabilities: ProbabilityArray
    folder: Path
    model_name: str
    refined: RefinedMap | None


def scan_work(
    slide: Slide, request: ScanRequest, engines: EngineCache, tissue: Future[TissueMask | None] | None
) -> Callable[[ShouldStop], Generator[Any, None, Any]]:
    """Return the work that scans a slide: yields Stage, ScanStarted, then each FinishedRoi; returns the ScanResult.

    Parameters
    ----------
    slide
        The open slide.
    request
        What to do.
    engines
        Where the network comes from.
    tissue
        The slide's tissue, found or being found with the settings of the request; ``None`` to find it now.
    """

    def work(should_stop: ShouldStop) -> Generator[Any, None, Any]:
        yield Stage("Preparing the network…")
        with engines.use(request.model, request.scan, should_stop) as ready:
            # Imported here, beside the window: torch takes seconds to load.
            from napari_metastasis.workflows.scan import prepare_scan, write_results

            yield Stage("Looking for tissue…")
            mask = None if tissue is None else await_future(tissue, should_stop)
            with prepare_scan(
                slide,
                ready.model,
                scan=request.scan,
                tissue=request.tissue,
                refiner=ready.refiner,
                refine=request.refine,
                region=request.region,
                focus=request.focus,
                output=request.output,
                mask=mask,
                chosen=ready.chosen,
                should_stop=should_stop,
            ) as prepared:
                yield ScanStarted(
                    frame=prepared.frame,
                    probabilities=prepared.heatmap.probabilities(),
                    folder=prepared.folder,
                    model_name=ready.model.spec.name,
                    engine=f"{prepared.engine.name}, {prepared.engine.precision}",
                    tissue=prepared.tissue,
                    model_px=prepared.model_px,
                    refined=_refined_map(prepared),
                )
                began, model_px = time.perf_counter(), 0
                with closing(prepared.run(should_stop)) as pieces:
                    for piece in pieces:
                        model_px += 0 if piece.refined else piece.model_px
                        yield piece
                seconds = time.perf_counter() - began
                yield Stage("Writing the results…")
                return write_results(prepared, request.detection, seconds=seconds, model_px=model_px)

    return work


def _refined_map(prepared: PreparedScan) -> RefinedMap | None:
    refinement = prepared.refinement
    return None if refinement is None else RefinedMap(refinement.frame, refinement.heatmap.probabilities())


def tissue_work(slide: Slide, settings: TissueSettings) -> Callable[[ShouldStop], Generator[Any, None, Any]]:
    """Return the work that finds a slide's tissue: returns the TissueMask, or ``None`` where it was stopped."""

    def work(should_stop: ShouldStop) -> Generator[Any, None, Any]:
        yield Stage("Looking for tissue…")
        from napari_metastasis.slides import tissue_mask

        return tissue_mask(slide, settings, should_stop=should_stop)

    return work


def index_work(
    probabilities: ProbabilityArray,
    frame: HeatmapFrame,
    settings: DetectionSettings,
    refined: RefinedMap | None = None,
    share: float = 0.0,
) -> Callable[[ShouldStop], Generator[Any, None, LesionIndex]]:
    """Return the work that prepares lesions for every threshold. Both maps may be written meanwhile.

    Parameters
    ----------
    probabilities, frame
        The scan's own map.
    settings
        How lesions are read off it.
    refined
        The refined map; ``None`` where there is none.
    share
        Of the refined probability in what lesions are read from.
    """

    def work(_: ShouldStop) -> Generator[Any, None, LesionIndex]:
        yield Stage("Looking for lesions…")
        from napari_metastasis.lesions import LesionIndex

        # A copy, because the window goes on writing; a piece that is half written is whole the next time.
        seen = probabilities.copy()
        if refined is not None:
            from napari_metastasis.scanning import blend

            seen = blend(seen, frame, refined.probabilities.copy(), refined.frame, share)
        index = LesionIndex(seen, frame, settings, map="probability" if refined is None else "refined")
        # The first look at a threshold labels every cell; done here, the window only pays for what changes later.
        index.at(settings.threshold)
        return index

    return work


def warm_up_work(_: ShouldStop) -> Generator[Any, None, None]:
    """Import what the first slide and the first scan need: seconds that nobody waits for in an empty window."""
    yield Stage("Warming up…")
    for name in ("slides", "lesions", "workflows.scan"):
        importlib.import_module(f"napari_metastasis.{name}")
    # What napari imports for its first labels and points, on the GUI thread unless it is there. By name: to make layers
    # here would be simpler, but their units come from a registry of pint's that two threads must not fill at once.
    for name in ("skimage.color", "pandas"):
        with suppress(ImportError):
            importlib.import_module(name)


def load_earlier_work(slide: Slide) -> Callable[[ShouldStop], Generator[Any, None, EarlierResult | None]]:
    """Return the work that looks for an earlier heatmap of this slide: returns the latest, or ``None``."""

    def work(_: ShouldStop) -> Generator[Any, None, EarlierResult | None]:
        yield Stage("Looking for earlier results…")
        from napari_metastasis.scanning import Heatmap
        from napari_metastasis.workflows.scan import default_output, heatmap_path, latest_refined

        root = default_output(slide)
        folders = [root, *root.glob("scan-*")]
        paths = [path for path in map(heatmap_path, folders) if path.is_dir()]
        for path in sorted(paths, key=_last_written, reverse=True):
            with Heatmap.open(path) as heatmap:
                identity = heatmap.identity
                # What lies there may be of another slide that had this name, or of this one with another pixel size.
                if (identity.get("slide"), identity.get("mpp")) == (slide.fingerprint, slide.mpp):
                    name = str(identity.get("model", ""))
                    found = latest_refined(path.parent, identity)
                    refined = None if found is None else RefinedMap(*found)
                    return EarlierResult(heatmap.frame, heatmap.probabilities(), path.parent, name, refined)
        return None

    return work


def _last_written(path: Path) -> float:
    """Return when anything was last added to a heatmap."""
    return max((entry.stat().st_mtime for entry in path.iterdir()), default=0.0)


@dataclass(frozen=True, slots=True)
class AvailableModels:
    """What can be chosen on this machine.

    Attributes
    ----------
    models
        Contracts of the models that ship, by name.
    devices
        Values of the device setting that work here.
    refiners
        Name of the refiner of each model that has one.
    """

    models: Mapping[str, ModelSpec]
    devices: tuple[str, ...]
    refiners: Mapping[str, str]


def available_models_work(files: Sequence[str]) -> Callable[[ShouldStop], Generator[Any, None, AvailableModels]]:
    """Return the work that finds out which models and devices there are; ``files`` are paths of further models."""

    def work(_: ShouldStop) -> Generator[Any, None, AvailableModels]:
        yield Stage("Looking for models…")
        from napari_metastasis.errors import DeviceError
        from napari_metastasis.models import list_models, load_with_refiner
        from napari_metastasis.scanning import resolve_devices

        # A refiner's own name stands for its model as well; here it is a switch beside the model.
        names = [entry.name for entry in list_models()]
        devices = ["auto", "cpu"]
        for device in ("cuda", "mps"):
            with suppress(DeviceError):
                resolve_devices(device)
                devices.append(device)
        found = {name: load_with_refiner(name) for name in [*names, *files]}
        refiners = {name: both.refiner.spec.name for name, both in found.items() if both.refiner is not None}
        return AvailableModels({name: both.model.spec for name, both in found.items()}, tuple(devices), refiners)

    return work
