"""The work that is done beside the window, as functions and generators that know neither Qt nor napari."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import StorageError
from napari_metastasis.geometry import ChunkedCells
from napari_metastasis.settings import DetectionSettings, TissueSettings
from napari_metastasis.tasks import DETECT, pass_tasks
from napari_metastasis.workflows.scan_job import AtHand, ScanJob, ScanStarted, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from napari_metastasis.lesions import Findings, LesionIndex
    from napari_metastasis.models import ModelSpec
    from napari_metastasis.sampling.hard_negatives import HardNegative
    from napari_metastasis.scanning import BoolArray, Coverage, MapValues
    from napari_metastasis.slides import Slide, TissueMask
    from napari_metastasis.workflows.scan import EarlierResult, EarlierScan, ReviewMark, Shown
    from napari_metastasis.workflows.scan.mitosis_results import MitosisSource

__all__ = [
    "AvailableModel",
    "AvailableModels",
    "Looked",
    "OnDisk",
    "ScanBegun",
    "Seen",
    "available_models_work",
    "earlier_results_work",
    "earlier_tissue_work",
    "index_work",
    "load_earlier_work",
    "load_result_work",
    "mined_work",
    "read_review_work",
    "report_work",
    "scan_work",
    "search_and_write_work",
    "swap_work",
    "tissue_work",
    "warm_up_work",
    "write_left_work",
    "write_review_work",
    "write_said_work",
    "write_shown_work",
]

#: µm per pixel that colours are looked at with: nuclei are some pixels wide, as for the models.
_TINT_MPP = 1.0

ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A result folder as it is known.

    Attributes
    ----------
    folder
        The result folder.
    journals
        How long the journals of its maps are when these are as they are shown.
    shown
        What its files were written with; ``None`` where that is not known.
    mitoses
        The map that its mitoses are of; ``None`` where it has none.
    """

    folder: Path
    journals: Mapping[str, int]
    shown: Shown | None = None
    mitoses: MitosisSource | None = None


@dataclass(frozen=True, slots=True)
class ScanBegun:
    """A scan that is about to run, with its maps as a window shows them.

    Attributes
    ----------
    started
        What the scan says of itself.
    maps
        Its maps with every cell of the slide: of a large one, hundreds of megabytes that take long to fill.
    """

    started: ScanStarted
    maps: tuple[MapValues, ...]


def scan_work(job: ScanJob, at_hand: AtHand, should_stop: ShouldStop) -> Generator[Any, None, Any]:
    """Scan a slide: yield and return what :func:`~napari_metastasis.workflows.scan.run_scan` does.

    Its start is a :class:`ScanBegun`, and the last that is yielded an :class:`OnDisk`.
    """
    yield Stage("Preparing the network…")
    # Imported here, beside the window: torch takes seconds to load.
    from napari_metastasis.workflows.scan import journals_of, read_shown, record_of, remember_place, run_scan
    from napari_metastasis.workflows.scan.mitosis_results import MitosisSource

    if job.output is not None and at_hand.slide is not None:
        # Before anything is stored there: also what is killed is found again.
        remember_place(at_hand.slide, job.output)
    with closing(run_scan(job, at_hand, should_stop)) as events:
        while True:
            try:
                event = next(events)
            except StopIteration as ended:
                result = ended.value
                break
            if isinstance(event, ScanStarted):
                yield ScanBegun(event, tuple(one.whole() for one in event.maps))
            else:
                yield event
    record, journals = record_of(result.output), journals_of(result.output)
    yield OnDisk(result.output, journals, read_shown(record), MitosisSource.of(result.output, record, journals))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a window shows of a result.

    Attributes
    ----------
    found
        Its findings.
    shown
        What they are read with.
    coverage
        How much of the tissue is answered.
    tissue_fraction
        Share of the slide that is tissue.
    read_map
        The map on whose cells they are read.
    """

    found: Findings
    shown: Shown
    coverage: Coverage
    tissue_fraction: float
    read_map: MapValues


def write_shown_work(slide: Slide, seen: Seen, on_disk: OnDisk, should_stop: ShouldStop) -> bool:
    """Write the files of a result as it is shown; return whether anything was written."""
    import numpy as np

    from napari_metastasis.workflows.scan import write_shown

    coverage = {
        "tissue_fraction": round(seen.tissue_fraction, 6),
        "cells_answered": int(np.count_nonzero(~np.isnan(seen.read_map.values))),
        **seen.coverage.to_json(),
    }
    return write_shown(
        on_disk.folder,
        slide,
        seen.found,
        seen.shown,
        coverage=coverage,
        journals=on_disk.journals,
        should_stop=should_stop,
    )


def write_said_work(folder: Path, _: ShouldStop) -> bool:
    """Bring the tables of a slide's results up to what was said of the findings; return that it was done."""
    from napari_metastasis.workflows.report import update_slide

    # Others that cannot be written are told of by whatever reads them.
    update_slide(folder)
    return True


def search_and_write_work(
    slide: Slide,
    maps: Sequence[MapValues],
    shown: Shown,
    detection: DetectionSettings,
    tissue: TissueMask,
    own_thresholds: Mapping[str, float],
    on_disk: OnDisk,
    should_stop: ShouldStop,
) -> bool:
    """Look for what was to be shown of a result when its window closed, and write its files.

    Parameters are those of :func:`index_work`, and what the window showed until then.
    """
    shares = [shown.shares[one.kind.name] for one in maps[1:]]
    looked = index_work(maps, shares, detection, tissue, None, should_stop, own_thresholds)
    assert looked.coverage is not None
    shown = _read_from(shown, looked.index.map, own_thresholds)
    alone = [one for one in maps if one.kind.stands_alone and one.kind.name == shown.map]
    seen = Seen(looked.index.at(shown.threshold), shown, looked.coverage, tissue.fraction, (*alone, maps[0])[0])
    return write_shown_work(slide, seen, on_disk, should_stop)


def _read_from(shown: Shown, name: str, own_thresholds: Mapping[str, float]) -> Shown:
    """Return what is shown once lesions are read from another map: at its own threshold, where the user chose none."""
    return replace(shown, map=name, threshold=own_thresholds.get(name, shown.threshold))


def write_left_work(
    slide: Slide,
    folder: Path,
    shown: Shown,
    detection: DetectionSettings,
    tissue: TissueMask,
    own_thresholds: Mapping[str, float],
    should_stop: ShouldStop,
) -> bool:
    """Write the files of a scan that ended when its window closed as that showed them; return whether it was needed.

    The window had not shown all of its answers: they are read again. Of a segmentation it may have shown none.
    """
    from napari_metastasis.workflows.scan import earlier_results, load_result

    scan = next((one for one in earlier_results(slide, folder) if one.folder == folder), None)
    if scan is None or scan.shown.shares.keys() != shown.shares.keys():
        return False
    earlier = load_result(slide, scan)
    as_written = _read_from(shown, earlier.shown.map, own_thresholds)
    if earlier.shown == as_written or len(earlier.maps) != len(shown.shares) + 1:
        return False
    on_disk = OnDisk(folder, earlier.journals)
    return search_and_write_work(slide, earlier.maps, shown, detection, tissue, own_thresholds, on_disk, should_stop)


def tissue_work(slide: Slide, should_stop: ShouldStop) -> TissueMask | None:
    """Return a slide's tissue, found with the default settings; ``None`` where the search was stopped."""
    from napari_metastasis.slides import tissue_mask

    return tissue_mask(slide, TissueSettings(), should_stop=should_stop)


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
    from napari_metastasis.slides.stains import nuclear_tint, swap_note, tissue_pixels

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
    own_thresholds: Mapping[str, float] = MappingProxyType({}),
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
    own_thresholds
        Of the maps that lesions may be read from, by their names, where the user chose none.
    """
    import numpy as np

    from napari_metastasis.lesions import LesionIndex
    from napari_metastasis.scanning import Coverage, answerable_cells, seen_values, unanswered_cells

    # Copies, because the window goes on writing; a piece that is half written is whole the next time.
    own, *later = [replace(one, values=one.values.copy()) for one in maps]
    read = seen_values(own, list(zip(later, shares, strict=True)), None if tissue is None else tissue.over)
    seen, frame = ChunkedCells.of(read.values), read.frame
    coverage = None
    if tissue is None:
        # Whatever was not scanned may be tissue: a lesion beside it is not said to be smaller than it may be.
        tissue_cells, unanswered = None, np.isnan(read.values)
    else:
        # On a slide without tissue they change once something is scanned all the same.
        if tissue_cells is None or tissue_cells.shape != frame.cells.shape or not tissue_cells.any():
            tissue_cells = answerable_cells(tissue, frame, seen)
        coverage, unanswered = Coverage.of(seen, tissue_cells), unanswered_cells(tissue_cells, seen)
    if read.kind.name in own_thresholds:
        settings = settings.with_own_threshold(own_thresholds[read.kind.name])
    settings = settings.on_pixels() if read.kind.stands_alone else settings
    index = LesionIndex(seen, frame, settings, map=read.kind.name, unanswered=unanswered)
    # The first look at a threshold labels every cell; done here, the window only pays for what changes later.
    index.at(settings.threshold)
    return Looked(index, coverage, tissue_cells)


def warm_up_work(_: ShouldStop) -> None:
    """Import what the first slide and the first scan need, while the window is empty and nobody waits."""
    for name in ("slides", "lesions", "workflows.scan", "workflows.scan.runner"):
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


def load_result_work(slide: Slide, scan: EarlierScan, _: ShouldStop) -> EarlierResult:
    """Return what one of the earlier scans of a slide left."""
    from napari_metastasis.workflows.scan import load_result

    return load_result(slide, scan)


def earlier_results_work(slide: Slide, _: ShouldStop) -> tuple[EarlierScan, ...]:
    """Return every earlier scan of a slide, the last written first."""
    from napari_metastasis.workflows.scan import earlier_results

    return earlier_results(slide)


def read_review_work(folder: Path, _: ShouldStop) -> ReviewMark | None:
    """Return what of a result a person has looked through."""
    from napari_metastasis.workflows.scan import read_review

    return read_review(folder)


def write_review_work(folder: Path, mark: ReviewMark | None, _: ShouldStop) -> ReviewMark | None:
    """Keep what of a result a person has looked through, and return it."""
    from napari_metastasis.workflows.scan import write_review

    write_review(folder, mark)
    return mark


def report_work(slide: Slide, folder: Path, _: ShouldStop) -> Path:
    """Write the report of a result, and return where it lies."""
    from napari_metastasis.workflows.report import write_report

    return write_report(folder, slide=slide.path).path


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
    parents
        Names of the models that it was made from, the nearest first.
    lacks
        Tasks whose models read what a detector makes of a slide, and none of which was made for this one.
    """

    spec: ModelSpec
    passes: frozenset[str]
    named: frozenset[str]
    ships: bool
    parents: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()


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
    from napari_metastasis.models import list_models, load_scan_models, parents_of
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
        found[name] = AvailableModel(
            models.detector.spec,
            frozenset(models.others),
            models.named,
            ships=name in ships,
            parents=parents_of(models.detector.card),
            # Of what others have, only what does not read pixels can be lacking.
            lacks=frozenset(task for task in tasks if task not in models.others),
        )
    return AvailableModels(found, tuple(devices))
