"""The record of a result folder, ``run.json``: how its results were made, and by which scans."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from napari_metastasis import __version__
from napari_metastasis.models import Model
from napari_metastasis.scanning import MITOSES, MapStore
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.storage import atomic_text
from napari_metastasis.workflows.scan.parts import PART_RECORD, part_records
from napari_metastasis.workflows.scan.prepared import PreparedScan
from napari_metastasis.workflows.scan.result_folder import record_of, recorded_pass, result_root
from napari_metastasis.workflows.scan.shown import Shown, read_shown
from napari_metastasis.workflows.scan_job import PassRequest

if TYPE_CHECKING:
    from napari_metastasis.workflows.scan.results import ScanResult

__all__ = ["coverage_json", "has_mitoses", "other_mitoses", "record_of_mitoses", "record_of_scan", "write_part_record"]

#: Packages whose version can change an answer.
_PACKAGES = ("imagecodecs", "numpy", "openslide-bin", "openvino", "scipy", "tifffile", "torch", "zarr")

#: Scans that a run record remembers: a viewer may scan one view after another.
_REMEMBERED_SCANS = 100


def coverage_json(result: ScanResult) -> dict[str, Any]:
    """Return how much of the slide is tissue, and how much of that is answered, also by how many cells in all."""
    return {
        "tissue_fraction": round(result.tissue_fraction, 6),
        "cells_answered": sum(int(np.count_nonzero(~np.isnan(values))) for _, values in result.answered),
        **result.coverage.to_json(),
    }


def record_of_scan(
    before: Any,
    prepared: PreparedScan,
    result: ScanResult,
    shown: Shown,
    later: Mapping[str, int],
    *,
    files: Mapping[str, Any],
    model_px: int,
) -> dict[str, Any]:
    """Return the record of a scan whose lesions were written.

    Parameters
    ----------
    before
        What the folder's record says until now; ``None`` where there is none.
    prepared, result
        The scan, and what it found.
    shown
        What its findings were read with.
    later
        In how many cells of the scan that hold tissue later maps have an answer, too, by the names of maps.
    files
        How its files were written.
    model_px
        Model pixels answered.
    """
    shares, passes = _passes_kept(prepared, result, before)
    record = _record(prepared, result, later)
    record["passes"] = [*passes, *record["passes"]]
    if result.mitoses is None and any(one["map"] == MITOSES.name for one in passes):
        record |= {"mitoses": before["mitoses"]} if "mitoses" in before else {}
        with suppress(KeyError, TypeError):
            record["settings"]["mitosis"] = before["settings"]["mitosis"]
    return {
        **record,
        "shown": replace(shown, shares={**shares, **shown.shares}).to_json(),
        "files": dict(files),
        "scans": _scans(prepared, result, model_px=model_px),
    }


def record_of_mitoses(
    before: Mapping[str, Any], prepared: PreparedScan, result: ScanResult, *, files: Mapping[str, Any], model_px: int
) -> dict[str, Any]:
    """Return an earlier scan's record with the mitoses that were found since: all that it says of lesions stays.

    Parameters are those of :func:`record_of_scan`.
    """
    made = _record(prepared, result, {})
    shown = read_shown(before)
    shares, passes = _passes_kept(prepared, result, before)
    known, earlier = before.get("settings"), before.get("files")
    return {
        **before,
        "passes": [*passes, *made["passes"]],
        "settings": {**(known if isinstance(known, dict) else {}), "mitosis": made["settings"]["mitosis"]},
        "mitoses": made["mitoses"],
        "shown": replace(shown, shares={**shares, **shown.shares}).to_json(),
        "files": {**(earlier if isinstance(earlier, dict) else {}), "journals": files["journals"]},
        "scans": _scans(prepared, result, model_px=model_px),
    }


def has_mitoses(record: Any) -> bool:
    """Return whether a record says of mitoses that somebody looked for."""
    try:
        return bool(record["mitoses"]["searched_mm2"])
    except (KeyError, TypeError):
        return False


def other_mitoses(prepared: PreparedScan) -> tuple[str, ...]:
    """Return what has to be said where a scan's mitoses take the place of others in the files; their map stays."""
    stores = [one.store for one in prepared.passes if one.store.kind.name == MITOSES.name]
    before = record_of(prepared.folder)
    made = recorded_pass(before, MITOSES.name)
    if made is None or not stores or stores[0].path.name == made["file"] or not has_mitoses(before):
        return ()
    try:
        file, model = made["file"], made["model"]["name"]
    except (KeyError, TypeError):
        return ()
    return (f"Mitoses: the files speak of this search from now on; what {model} found before stays in {file}",)


def _tasks_written(prepared: PreparedScan, result: ScanResult) -> set[str]:
    """Return the tasks whose passes the record is to speak of: not mitoses that nobody has looked for yet."""
    return {one.task for one in prepared.job.wanted_passes if one.task != "mitosis" or result.mitoses is not None}


def _passes_kept(prepared: PreparedScan, result: ScanResult, before: Any) -> tuple[dict[str, float], list[Any]]:
    """Return the shares and the records of passes that an earlier scan made, and that are still there.

    A pass alone takes none away, and no scan takes mitoses away, which no lesion is read from.
    """
    if not isinstance(before, dict):
        return {}, []
    made = _tasks_written(prepared, result)
    recorded = before.get("passes")
    kept = [
        one
        for one in (recorded if isinstance(recorded, list) else [])
        if isinstance(one, dict)
        and one.get("task") not in made
        and isinstance(one.get("map"), str)
        and (not prepared.job.detects or one["map"] == MITOSES.name)
    ]
    shares = {one["map"]: float(one.get("share", 1.0)) for one in kept if one["map"] != MITOSES.name}
    return shares, kept


def _record(prepared: PreparedScan, result: ScanResult, later: Mapping[str, int]) -> dict[str, Any]:
    """Return how the results were made: enough to repeat the scan, and to tell it from any other."""
    slide, job = prepared.slide, prepared.job
    settings = {request.task: request.settings.to_json() for request in job.passes}
    return {
        "slide": {
            "path": str(slide.path),
            "name": slide.name,
            # A report is written from wherever somebody is.
            "folder": "" if isinstance(slide.path, SlideUrl) else str(slide.path.absolute().parent),
            "fingerprint": slide.fingerprint,
            "format": slide.format,
            "backend": slide.backend,
            "size": [slide.size.width, slide.size.height],
            # GeoJSON counts from their corner.
            "bounds": None if slide.bounds is None else list(astuple(slide.bounds)),
            "mpp": slide.mpp,
            "mpp_supplied": slide.mpp_supplied,
            "swapped": slide.swapped,
        },
        "model": _model_record(prepared.models.detector),
        "heatmap": {
            "identity": dict(prepared.heatmap.identity),
            "cells": [prepared.frame.cells.width, prepared.frame.cells.height],
            "cell_um": prepared.frame.cell_um,
        },
        "passes": [
            _pass_record(request, prepared, made.store, later)
            for request, made in zip(job.wanted_passes, prepared.passes, strict=True)
            if request.task in _tasks_written(prepared, result)
        ],
        "settings": {
            "scan": asdict(job.scan),
            **settings,
            "tissue": asdict(job.tissue),
            "detection": asdict(prepared.detection_of(result.read)),
        },
        "own_thresholds": dict(prepared.own_thresholds),
        "stain": prepared.stain.to_json(),
        "coverage": coverage_json(result),
        "slide_score": result.slide_score,
        "lesions": sum(lesion.id >= 0 for lesion in result.lesions),
        **({} if result.mitoses is None else {"mitoses": result.mitoses.own.to_json()}),
        "versions": {"napari-metastasis": __version__, "python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
    }


def _model_record(model: Model) -> dict[str, Any]:
    return {**model.spec.to_json(), "weights_sha256": model.weights_sha256}


def _pass_record(
    request: PassRequest, prepared: PreparedScan, store: MapStore, later: Mapping[str, int]
) -> dict[str, Any]:
    """Return what a pass after the scan did: its map, its model, and how much of the map is answered.

    Tissue is counted in cells of the scan, as its coverage counts them.
    """
    name, stain = store.kind.name, prepared.stains.get(request.task)
    return {
        "task": request.task,
        "map": name,
        "file": store.path.name,
        "model": _model_record(prepared.models.others[request.task]),
        "share": request.settings.share,
        "identity": dict(store.identity),
        "cell_um": store.frame.cell_um,
        "cells_answered": int(np.count_nonzero(store.done)),
        **({} if stain is None else {"stain": stain.to_json()}),
        **({"tissue_cells_answered": later[name]} if name in later else {}),
    }


def write_part_record(prepared: PreparedScan, *, seconds: float, model_px: int) -> None:
    """Write what the scan of a part of a slide took, for the record of the slide's scan.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    part = prepared.job.part
    assert part is not None
    with atomic_text(prepared.folder / PART_RECORD) as file:
        json.dump({**_took(prepared, seconds, model_px), "part": [part.number + 1, part.of]}, file)


def _took(prepared: PreparedScan, seconds: float, model_px: int) -> dict[str, Any]:
    """Return when a scan ended, what ran it, and what it took."""
    return {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": prepared.chosen.engine.name,
        "device": prepared.chosen.engine.device,
        "roi_px": prepared.chosen.roi_px,
        "seconds": round(seconds, 3),
        "model_px": model_px,
        "mpx_per_s": round(model_px / 1e6 / seconds, 3) if seconds > 0 else 0.0,
    }


def _scans(prepared: PreparedScan, result: ScanResult, *, model_px: int) -> list[Any]:
    """Return the scans of the folder for its record: those recorded before, those of parts, and this one."""
    plan, job = prepared.plan, prepared.job
    took = _took(prepared, result.seconds, model_px)
    latest = {
        "ended": took.pop("ended"),
        "region": None if job.region is None else asdict(job.region),
        **({"outlines": [shapely.geometry.mapping(one.outline_px) for one in job.outlines]} if job.outlines else {}),
        **took,
        "cells_wanted": plan.cells_wanted,
        "cells_without_tissue": plan.cells_without_tissue,
        "cells_answered_before": plan.cells_done,
        "finished": result.finished,
        "notes": [*prepared.notes, *result.partly],
    }
    before = _earlier_scans(prepared.folder)
    # Those of a scan that was stopped while it wrote its results are there already.
    parts = [one for one in part_records(result_root(prepared.slide, job)) if one not in before]
    return [*before, *parts, latest][-_REMEMBERED_SCANS:]


def _earlier_scans(folder: Path) -> list[Any]:
    """Return the scans on a folder's record; none where it cannot be read."""
    try:
        scans = record_of(folder)["scans"]
    except (KeyError, TypeError):
        return []
    return [scan for scan in scans if isinstance(scan, dict)] if isinstance(scans, list) else []


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
