"""The work that is done beside the window, as functions and generators that know neither Qt nor napari."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import ChunkedCells
from napari_metastasis.settings import DetectionSettings, TissueSettings
from napari_metastasis.tasks import DETECT, pass_tasks
from napari_metastasis.workflows.scan_job import AtHand, ScanJob, Stage

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from napari_metastasis.lesions import LesionIndex
    from napari_metastasis.models import ModelSpec
    from napari_metastasis.sampling.hard_negatives import HardNegative
    from napari_metastasis.scanning import BoolArray, Coverage, MapValues
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan import EarlierResult

__all__ = [
    "AvailableModel",
    "AvailableModels",
    "Looked",
    "available_models_work",
    "earlier_tissue_work",
    "index_work",
    "load_earlier_work",
    "mined_work",
    "scan_work",
    "swap_work",
    "thumbnail_work",
    "tissue_work",
    "warm_up_work",
]

#: µm per pixel that colours are looked at with: nuclei are some pixels wide, as for the models.
_TINT_MPP = 1.0
#: Longer side of a slide's small picture.
_THUMBNAIL_PX = 320

ShouldStop = Callable[[], bool]


def scan_work(job: ScanJob, at_hand: AtHand, should_stop: ShouldStop) -> Generator[Any, None, Any]:
    """Scan a slide: yield and return what :func:`~napari_metastasis.workflows.scan.run_scan` does."""
    yield Stage("Preparing the network…")
    # Imported here, beside the window: torch takes seconds to load.
    from napari_metastasis.workflows.scan import run_scan

    return (yield from run_scan(job, at_hand, should_stop))


def tissue_work(slide: Slide, should_stop: ShouldStop) -> TissueMask | None:
    """Return a slide's tissue, found with the default settings; ``None`` where the search was stopped."""
    from napari_metastasis.slides import tissue_mask

    return tissue_mask(slide, TissueSettings(), should_stop=should_stop)


def thumbnail_work(slide: Slide, _: ShouldStop) -> npt.NDArray[np.uint8]:
    """Return the whole slide in a small picture, uint8 (rows, columns, 3): its coarsest level, which the window has."""
    import numpy as np

    coarsest = np.asarray(slide.levels[-1].array)
    step = -(-max(coarsest.shape[:2]) // _THUMBNAIL_PX)
    return np.ascontiguousarray(coarsest[::step, ::step])


def earlier_tissue_work(slide: Slide, folder: Path, should_stop: ShouldStop) -> TissueMask | None:
    """Return a slide's tissue as a stored scan found it, which its coverage counts; ``None`` where that is as usual."""
    from napari_metastasis.slides import tissue_mask
    from napari_metastasis.workflows.scan import recorded_tissue

    settings = recorded_tissue(folder)
    if settings in (None, TissueSettings()):
        return None
    return tissue_mask(slide, settings, should_stop=should_stop)


def swap_work(slide: Slide, tissue: TissueMask, _: ShouldStop) -> str:
    """Return what has to be said where red and blue look exchanged on a slide; empty where they do not."""
    from napari_metastasis.slides.stain import nuclear_tint, swap_note, tissue_pixels

    pixels = tissue_pixels(slide, slide.frame(max(slide.mpp, _TINT_MPP)), tissue)
    return "" if pixels is None else swap_note(nuclear_tint(pixels))


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What a look at the maps of a slide found.

    Attributes
    ----------
    index
        Lesions, prepared for every threshold.
    coverage
        How much of the tissue is answered; ``None`` where the tissue is not known.
    tissue_cells
        Cells that it counts: bool, (rows, columns); ``None`` with it.
    """

    index: LesionIndex
    coverage: Coverage | None
    tissue_cells: BoolArray | None


def index_work(
    maps: Sequence[MapValues],
    shares: Sequence[float],
    settings: DetectionSettings,
    tissue: TissueMask | None,
    tissue_cells: BoolArray | None,
    _: ShouldStop,
) -> Looked:
    """Return lesions, prepared for every threshold, and coverage. The maps may be written meanwhile.

    Parameters
    ----------
    maps
        The scan's own map, then those of the passes after it.
    shares
        Of each of the latter in what lesions are read from.
    settings
        How lesions are read off them.
    tissue
        Where the slide holds tissue; ``None`` while that is not known.
    tissue_cells
        What :func:`~napari_metastasis.scanning.answerable_cells` found for it before; ``None`` where it was not asked.
    """
    from napari_metastasis.lesions import LesionIndex
    from napari_metastasis.scanning import Coverage, answerable_cells, blend_all, read_from, unanswered_cells

    # Copies, because the window goes on writing; a piece that is half written is whole the next time.
    own, *later = [replace(one, values=one.values.copy()) for one in maps]
    others = list(zip(later, shares, strict=True))
    seen = ChunkedCells.of(blend_all(own.values, own.frame, others))
    coverage, unanswered = None, None
    if tissue is None:
        tissue_cells = None
    else:
        # On a slide without tissue they change once something is scanned all the same.
        if tissue_cells is None or not tissue_cells.any():
            tissue_cells = answerable_cells(tissue, own.frame, seen)
        coverage, unanswered = Coverage.of(seen, tissue_cells), unanswered_cells(tissue_cells, seen)
    index = LesionIndex(seen, own.frame, settings, map=read_from(own, others), unanswered=unanswered)
    # The first look at a threshold labels every cell; done here, the window only pays for what changes later.
    index.at(settings.threshold)
    return Looked(index, coverage, tissue_cells)


def warm_up_work(_: ShouldStop) -> None:
    """Import what the first slide and the first scan need, while the window is empty and nobody waits."""
    for name in ("slides", "lesions", "workflows.scan"):
        importlib.import_module(f"napari_metastasis.{name}")
    # What napari would import on the GUI thread for its first labels and points. By name: to make layers here would be
    # simpler, but their units come from a registry of pint's that two threads must not fill at once.
    for name in ("skimage.color", "pandas"):
        with suppress(ImportError):
            importlib.import_module(name)


def load_earlier_work(slide: Slide, _: ShouldStop) -> EarlierResult | None:
    """Return what the latest scan of a slide left beside it; ``None`` where there is none."""
    from napari_metastasis.workflows.scan import earlier_result

    return earlier_result(slide)


def mined_work(path: Path, slide: str, _: ShouldStop) -> tuple[HardNegative, ...]:
    """Return the locations that a training run mined on a slide, strongest first, from its ``hard_negatives.csv``."""
    from napari_metastasis.sampling.hard_negatives import read_hard_negatives, strongest_first

    mined = read_hard_negatives(path)
    here = strongest_first(one for one in mined if one.slide == slide)
    if not here:
        others = sorted({one.slide for one in mined})
        remedy = f"open one of those, such as {others[0]}" if others else "choose another run's file"
        raise StorageError(
            f"expected places mined on {slide} in {path}, got {len(mined)} on {len(others)} other slides; {remedy}"
        )
    return here


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
    ships
        Whether it comes with the program: what follows it was measured together with it, and is offered switched on.
    """

    spec: ModelSpec
    passes: frozenset[str]
    named: frozenset[str]
    ships: bool


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


def available_models_work(files: Sequence[str], _: ShouldStop) -> AvailableModels:
    """Return which models and devices there are; ``files`` are paths of further models."""
    from napari_metastasis.errors import DeviceError
    from napari_metastasis.models import list_models, load_scan_models
    from napari_metastasis.scanning import resolve_devices

    # Only detectors: the models that follow them are switches beside the list.
    entries = list_models(DETECT)
    ships = {entry.name for entry in entries if entry.shipped}
    devices = ["auto", "cpu"]
    for device in ("cuda", "mps"):
        with suppress(DeviceError):
            resolve_devices(device)
            devices.append(device)
    tasks = tuple(task.name for task in pass_tasks())
    found = {}
    for name in [*(entry.name for entry in entries), *files]:
        models = load_scan_models(name, tasks=tasks)
        found[name] = AvailableModel(models.detector.spec, frozenset(models.others), models.named, ships=name in ships)
    return AvailableModels(found, tuple(devices))
