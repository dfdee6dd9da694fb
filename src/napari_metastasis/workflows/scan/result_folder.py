"""Where the results of a scan lie, and the scans and maps that are stored there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_metastasis.errors import StorageError
from napari_metastasis.plain_json import read_json
from napari_metastasis.scanning import (
    FEATURES_VERSION,
    HEATMAP_VERSION,
    PROBABILITY,
    MapStore,
    MapValues,
    digest,
    journal_path,
    last_written,
    like,
    precision_of,
    read_header,
)
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slide_address import results_place
from napari_metastasis.slides import Slide
from napari_metastasis.tasks import pass_tasks
from napari_metastasis.workflows.scan_job import ScanJob

if TYPE_CHECKING:
    from napari_metastasis.models import Detector

__all__ = [
    "OTHER_SETTINGS",
    "StoredScan",
    "corrections_folder",
    "default_output",
    "feature_path",
    "folder_for",
    "heatmap_path",
    "journals_of",
    "known_identity",
    "record_of",
    "record_path",
    "recorded_pass",
    "result_root",
    "scan_identity",
    "stored_maps",
    "stored_precision",
    "stored_scans",
]

_MAPS = "*.ome.zarr"
#: What folders of scans with other settings are called by, inside a result folder.
OTHER_SETTINGS = "scan-"


@dataclass(frozen=True, slots=True)
class StoredScan:
    """A scan that lies in a result folder.

    Attributes
    ----------
    folder
        Where its results lie: the result folder, or one inside.
    identity
        Everything that decides its heatmap.
    cell_um
        Distance between neighbouring answers of its heatmap.
    """

    folder: Path
    identity: Mapping[str, Any]
    cell_um: float


def default_output(slide: Slide) -> Path:
    """Return where a slide's results go unless told otherwise: ``<slide name>.metastasis`` beside it.

    Of a slide at an address, in the current folder.
    """
    return results_place(slide.path) / f"{slide.name}.metastasis"


def result_root(slide: Slide, job: ScanJob) -> Path:
    """Return the result folder of a job; scans with other settings lie in folders inside."""
    return default_output(slide) if job.output is None else job.output


def corrections_folder(folder: Path) -> Path:
    """Return where the corrections of a result lie: one slide has one file of them, whatever it is scanned with.

    Parameters
    ----------
    folder
        A result folder, or one inside that holds a scan with other settings.
    """
    is_inside = folder.name.startswith(OTHER_SETTINGS) and os.path.exists(heatmap_path(folder.parent))
    return folder.parent if is_inside else folder


def heatmap_path(folder: Path) -> Path:
    """Return where the heatmap of a result folder lies."""
    return folder / f"{PROBABILITY.stem}.ome.zarr"


def feature_path(folder: Path, identity: Mapping[str, Any]) -> Path:
    """Return where the features of a scan lie; each model that reads features has its own."""
    return folder / f"features-{digest({**identity, 'features_version': FEATURES_VERSION})[:8]}.zarr"


def scan_identity(
    slide: Slide, model: Detector, settings: ScanSettings, *, precision: str | None = None
) -> dict[str, Any]:
    """Return everything that decides a heatmap's answers, as plain values.

    Answers do not depend on region, tissue, ROI size, threads, engine, device and order, so that a scan may go on with
    others. The precision is ``None`` while it is open.
    """
    spec = model.spec
    settings = settings.at_density(spec.dense_coefficient)
    # Answers of models that were not calibrated are those of earlier versions, which say nothing of it.
    calibration = {} if spec.calibration is None else {"calibration": spec.calibration}
    stain = {"stain": list(spec.stain_density)} if settings.stain == "normalise" else {}
    # A slide's dyes follow from it.
    # Imported with torch, which folders are looked through without.
    from napari_metastasis.models.inputs import input_of

    read_as = {"input": found} if (found := input_of(spec, settings.stain).identity) else {}
    return {
        "heatmap_version": HEATMAP_VERSION,
        "slide": slide.fingerprint,
        "mpp": slide.mpp,
        "effective_mpp": slide.frame(spec.mpp).effective_mpp,
        "model": spec.name,
        "weights_sha256": model.weights_sha256,
        "dense_coefficient": settings.dense_coefficient,
        "augment_views": settings.augment_views,
        "precision": precision,
        **calibration,
        **stain,
        **read_as,
    }


def known_identity(root: Path, slide: Slide, identity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the identity that a slide's scan has in a result folder: an earlier version's, where one began it."""
    earlier = _as_earlier(slide, identity)
    begun = any(digest(stored.identity) == digest(earlier) for stored in stored_scans(root))
    return earlier if begun else identity


def _as_earlier(slide: Slide, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {**identity, "slide": slide.earlier_fingerprint}


def folder_for(root: Path, identity: Mapping[str, Any]) -> Path:
    """Return ``root``, or a folder of its own inside where ``root`` holds the heatmap of another scan.

    One without answers, which a segmentation left, is any precision's.
    """
    if not os.path.exists(heatmap_path(root)):
        return root
    # What cannot be read is left alone: it is not ours, or of another version.
    held = next((stored.identity for stored in _readable([root])), {})
    wanted, is_empty = digest(identity), not last_written(heatmap_path(root))
    fits = digest(held) == wanted or (is_empty and like(held, identity))
    return root if fits else root / f"{OTHER_SETTINGS}{wanted[:8]}"


def stored_scans(root: Path) -> tuple[StoredScan, ...]:
    """Return every scan of a result folder that can be read, the last written first.

    Others are passed over: not ours, of another version, or damaged.
    """
    # Of a name that is too long, Path asks the disk in vain, and raises.
    inside = sorted(root.glob(f"{OTHER_SETTINGS}*")) if os.path.isdir(root) else []
    return tuple(sorted(_readable([root, *inside]), key=_last_scanned, reverse=True))


def _readable(folders: list[Path]) -> Iterator[StoredScan]:
    for folder in folders:
        if os.path.exists(heatmap_path(folder)):
            try:
                header = read_header(heatmap_path(folder))
                yield StoredScan(folder, header.identity, header.frame.cell_um)
            except StorageError:
                continue


def _last_scanned(scan: StoredScan) -> float:
    return last_written(heatmap_path(scan.folder))


def journals_of(folder: Path) -> dict[str, int]:
    """Return how long the journal of each map of a result folder is, in bytes, by the map's file name.

    Journals only grow, with every answer: where they are as before, so are the maps.
    """
    return {path.name: _journal_bytes(path) for path in sorted(folder.glob(_MAPS))}


def _journal_bytes(path: Path) -> int:
    try:
        return journal_path(path).stat().st_size
    except OSError:
        return 0


def stored_precision(slide: Slide, job: ScanJob, detector: Detector) -> str | None:
    """Return the precision of the stored heatmap that a job goes on with; ``None`` without one.

    A precision that the job states is obeyed, whatever lies there, and that of a heatmap without answers is nobody's
    choice. Where the detector does not answer, any will do: what the job makes lies beside it.
    """
    if job.detects and job.scan.precision != "auto":
        return None
    identity = scan_identity(slide, detector, job.scan)
    stored = (
        one.identity
        for one in stored_scans(result_root(slide, job))
        if not job.detects or last_written(heatmap_path(one.folder))
    )
    return precision_of((identity, _as_earlier(slide, identity)), stored)


def stored_maps(
    scan: StoredScan, belongs: Callable[[Path, str], bool] = lambda _path, _name: True
) -> tuple[MapValues, ...]:
    """Return the maps of a stored scan: its own, then those of the passes after it, in the order of the passes.

    Of several maps of one kind the one that was written last is returned.

    Parameters
    ----------
    scan
        The scan.
    belongs
        Says of another map's file and name whether it is wanted.

    Raises
    ------
    StorageError
        If the scan's own map cannot be read. Another one that cannot is passed over.
    """
    own = heatmap_path(scan.folder)
    with MapStore.open(own) as store:
        found = {store.kind.name: MapValues(store.kind, store.frame, store.values())}
    paths = sorted((path for path in scan.folder.glob(_MAPS) if path != own), key=last_written, reverse=True)
    for path in paths:
        try:
            header = read_header(path)
            # Each map has a precision of its own.
            of_scan = all(header.identity.get(key) == scan.identity[key] for key in scan.identity if key != "precision")
            if of_scan and header.kind.name not in found and belongs(path, header.kind.name):
                with MapStore.open(path) as store:
                    found[store.kind.name] = MapValues(store.kind, store.frame, store.values())
        except StorageError:
            continue
    scanned, *others = found
    order = [task.writes for task in pass_tasks()]
    others.sort(key=lambda name: order.index(name) if name in order else len(order))
    return tuple(found[name] for name in (scanned, *others))


def record_path(folder: Path) -> Path:
    """Return where the record of a scan lies."""
    return folder / "run.json"


def record_of(folder: Path) -> Any:
    """Return the record of a scan; ``None`` where it cannot be read."""
    try:
        return read_json(record_path(folder))
    except (OSError, ValueError):
        return None


def recorded_pass(record: Any, name: str) -> Mapping[str, Any] | None:
    """Return what a record says of the pass that wrote a map; ``None`` where it says of none, or of several.

    Parameters
    ----------
    record
        What a ``run.json`` says.
    name
        Of the map. Its ``file`` lies in the folder of the record.
    """
    try:
        (made,) = (one for one in record["passes"] if one["map"] == name)
        return made if Path(str(made["file"])).name == str(made["file"]) else None
    except (KeyError, TypeError, ValueError):
        return None
