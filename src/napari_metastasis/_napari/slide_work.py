"""The work that is done beside the window, as generators that know neither Qt nor napari."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_metastasis.settings import DetectionSettings, TissueSettings
from napari_metastasis.tasks import DETECT, pass_tasks
from napari_metastasis.workflows.scan_job import AtHand, ScanJob, Stage

if TYPE_CHECKING:
    from napari_metastasis.lesions import LesionIndex
    from napari_metastasis.models import ModelSpec
    from napari_metastasis.scanning import MapValues
    from napari_metastasis.slides import Slide
    from napari_metastasis.workflows.scan import EarlierResult

__all__ = [
    "AvailableModel",
    "AvailableModels",
    "available_models_work",
    "index_work",
    "load_earlier_work",
    "scan_work",
    "tissue_work",
    "warm_up_work",
]

ShouldStop = Callable[[], bool]


def scan_work(job: ScanJob, at_hand: AtHand) -> Callable[[ShouldStop], Generator[Any, None, Any]]:
    """Return the work that scans a slide: what :func:`~napari_metastasis.workflows.scan.run_scan` yields and returns.

    Parameters
    ----------
    job
        What to do.
    at_hand
        The open slide, the engines, and the slide's tissue where it is found or being found.
    """

    def work(should_stop: ShouldStop) -> Generator[Any, None, Any]:
        yield Stage("Preparing the network…")
        # Imported here, beside the window: torch takes seconds to load.
        from napari_metastasis.workflows.scan import run_scan

        return (yield from run_scan(job, at_hand, should_stop))

    return work


def tissue_work(slide: Slide, settings: TissueSettings) -> Callable[[ShouldStop], Generator[Any, None, Any]]:
    """Return the work that finds a slide's tissue: returns the TissueMask, or ``None`` where it was stopped."""

    def work(should_stop: ShouldStop) -> Generator[Any, None, Any]:
        yield Stage("Looking for tissue…")
        from napari_metastasis.slides import tissue_mask

        return tissue_mask(slide, settings, should_stop=should_stop)

    return work


def index_work(
    maps: Sequence[MapValues], shares: Sequence[float], settings: DetectionSettings
) -> Callable[[ShouldStop], Generator[Any, None, LesionIndex]]:
    """Return the work that prepares lesions for every threshold. The maps may be written meanwhile.

    Parameters
    ----------
    maps
        The scan's own map, then those of the passes after it.
    shares
        Of each of the latter in what lesions are read from.
    settings
        How lesions are read off them.
    """

    def work(_: ShouldStop) -> Generator[Any, None, LesionIndex]:
        yield Stage("Looking for lesions…")
        from napari_metastasis.lesions import LesionIndex
        from napari_metastasis.scanning import blend_all, read_from

        # Copies, because the window goes on writing; a piece that is half written is whole the next time.
        own, *later = [replace(one, values=one.values.copy()) for one in maps]
        others = list(zip(later, shares, strict=True))
        seen = blend_all(own.values, own.frame, others)
        index = LesionIndex(seen, own.frame, settings, map=read_from(own, others))
        # The first look at a threshold labels every cell; done here, the window only pays for what changes later.
        index.at(settings.threshold)
        return index

    return work


def warm_up_work(_: ShouldStop) -> Generator[Any, None, None]:
    """Import what the first slide and the first scan need, while the window is empty and nobody waits."""
    yield Stage("Warming up…")
    for name in ("slides", "lesions", "workflows.scan"):
        importlib.import_module(f"napari_metastasis.{name}")
    # What napari would import on the GUI thread for its first labels and points. By name: to make layers here would be
    # simpler, but their units come from a registry of pint's that two threads must not fill at once.
    for name in ("skimage.color", "pandas"):
        with suppress(ImportError):
            importlib.import_module(name)


def load_earlier_work(slide: Slide) -> Callable[[ShouldStop], Generator[Any, None, EarlierResult | None]]:
    """Return the work that looks for earlier maps of this slide: returns those of the latest scan, or ``None``."""

    def work(_: ShouldStop) -> Generator[Any, None, EarlierResult | None]:
        yield Stage("Looking for earlier results…")
        from napari_metastasis.workflows.scan import earlier_result

        return earlier_result(slide)

    return work


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A model that can scan.

    Attributes
    ----------
    spec
        The detector's contract.
    passes
        Tasks of the passes that can follow.
    named
        Those of them that are made in any case: the model itself is for them, and stands for its detector.
    """

    spec: ModelSpec
    passes: frozenset[str]
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class AvailableModels:
    """What can be chosen on this machine.

    Attributes
    ----------
    models
        By name or path.
    devices
        Values of the device setting that work here.
    """

    models: Mapping[str, AvailableModel]
    devices: tuple[str, ...]


def available_models_work(files: Sequence[str]) -> Callable[[ShouldStop], Generator[Any, None, AvailableModels]]:
    """Return the work that lists models and devices; ``files`` are paths of further models."""

    def work(_: ShouldStop) -> Generator[Any, None, AvailableModels]:
        yield Stage("Looking for models…")
        from napari_metastasis.errors import DeviceError
        from napari_metastasis.models import list_models, load_scan_models
        from napari_metastasis.scanning import resolve_devices

        # Only detectors: the models that follow them are switches beside the list.
        names = [entry.name for entry in list_models(DETECT)]
        devices = ["auto", "cpu"]
        for device in ("cuda", "mps"):
            with suppress(DeviceError):
                resolve_devices(device)
                devices.append(device)
        tasks = tuple(task.name for task in pass_tasks())
        found = {}
        for name in [*names, *files]:
            models = load_scan_models(name, tasks=tasks)
            found[name] = AvailableModel(models.detector.spec, frozenset(models.others), models.named)
        return AvailableModels(found, tuple(devices))

    return work
