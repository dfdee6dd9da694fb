"""What a scan's result folder says of the detections in it: which model made them, and of how much of the slide."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import EvaluationError, first_line
from napari_metastasis.geometry import Size
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import holds_control_characters

__all__ = ["MitosisRecord", "ScanRecord", "read_mitosis_record", "read_scan_record"]

#: Side of a slide, in level-0 pixels: more than any scanner makes.
_MOST_PX = 1 << 24


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """One scan.

    Attributes
    ----------
    size
        The slide's level-0 width and height.
    corner
        (x, y) that GeoJSON counts from: the corner of the slide's bounds, in level-0 pixels.
    model, weights_sha256
        What scanned it.
    threshold
        Probability from which the detections were written: a window writes them as it shows them. ``None`` where that
        is not recorded.
    read_from
        What the detections were read from, for a person: "probability", or later maps with their shares and models.
    """

    size: tuple[float, float]
    corner: tuple[float, float]
    model: str
    weights_sha256: str
    threshold: float | None
    read_from: str


def read_scan_record(folder: Path) -> ScanRecord | None:
    """Return what is known of the scan in a result folder; ``None`` where it says nothing.

    Raises
    ------
    EvaluationError
        If the scan was stopped or left out a part of the slide, the folder holds several scans, or the record is
        damaged.
    """
    others = sorted(path.parent.name for path in folder.glob("scan-*/detections.csv"))
    if others:
        raise EvaluationError(
            f"expected one scan in {folder}, got another one in {', '.join(others)}; copy the detections.csv that is "
            "meant to <slide>.csv in a folder of its own"
        )
    path = folder / "run.json"
    if not os.path.exists(path):
        return None
    try:
        record = read_json(path)
        found = _record(record)
        # A scan of the whole slide may have been made in several goes, and regions may have been scanned after it.
        goes = [scan["finished"] is True and scan["region"] is None for scan in record["scans"]]
        coverage, partly = record.get("coverage", {}), _partly(record)
        # Views may cover a slide as well. What passes after the scan left out is counted apart; where earlier versions
        # did not, only the latest scan speaks for them.
        whole = goes[-1] if partly is None else not partly and (any(goes) or coverage.get("whole") is True)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = first_line(error)
        raise EvaluationError(f"expected the record of a scan, got {path} ({reason}); scan the slide again") from error
    if not whole:
        raise EvaluationError(
            f"expected a finished scan of the whole slide, got {_part(coverage)} in {folder}; run 'scan' again without "
            "--region, which goes on"
        )
    return found


@dataclass(frozen=True, slots=True)
class MitosisRecord:
    """One scan that looked for mitoses.

    Attributes
    ----------
    size
        Of the slide's level 0.
    corner
        As of a :class:`ScanRecord`.
    mpp
        µm per level-0 pixel.
    model, weights_sha256
        What found them.
    threshold
        Probability from which they were written.
    tissue_mm2
        Of the slide.
    """

    size: Size
    corner: tuple[float, float]
    mpp: float
    model: str
    weights_sha256: str
    threshold: float
    tissue_mm2: float


def read_mitosis_record(folder: Path) -> MitosisRecord | None:
    """Return what is known of the mitoses in a result folder; ``None`` where it says nothing.

    Raises
    ------
    EvaluationError
        If a part of the tissue was not looked at, though all was to be, or the record is damaged.
    """
    path = folder / "run.json"
    if not os.path.exists(path):
        return None
    try:
        record = read_json(path)
        slide, found = record["slide"], record["mitoses"]
        made = next(one for one in record["passes"] if one["task"] == "mitosis")
        width, height = _numbers(slide["size"], 2)
        x, y, *_ = (0.0, 0.0) if slide.get("bounds") is None else _numbers(slide["bounds"], 4)
        numbers = [slide["mpp"], found["threshold"], found["searched_mm2"], found["tissue_mm2"]]
        mpp, threshold, searched, tissue = _numbers(numbers, 4)
        if not (0 < width <= _MOST_PX and 0 < height <= _MOST_PX and mpp > 0):
            raise ValueError("a size that no slide has")
        size = Size(int(width), int(height))
        known = _name(made["model"]["name"]), _name(made["model"]["weights_sha256"])
        # All that was to be looked at: all tissue, or what an earlier map finds suspicious, and no region of that.
        (above,) = _numbers([record["settings"]["mitosis"]["mitosis_above"]], 1)
        goes = [scan["finished"] is True and scan["region"] is None for scan in record["scans"]]
        is_whole = searched >= tissue or (above > 0 and any(goes))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, StopIteration) as error:
        reason = first_line(error)
        raise EvaluationError(f"expected the record of a scan, got {path} ({reason}); scan the slide again") from error
    if not is_whole:
        raise EvaluationError(
            f"expected a scan that looked at all tissue for mitoses, got one of {searched:.2f} of {tissue:.2f} mm² in "
            f"{folder}; run 'scan' again with its other options, but without --region, which goes on"
        )
    return MitosisRecord(size, (x, y), mpp, *known, threshold, tissue)


def _partly(record: dict[str, Any]) -> bool | None:
    """Return whether a pass after the scan, which detections are read from, left out tissue; ``None`` if unknown."""
    passes = {one["map"]: one for one in record.get("passes", [])}
    shares = record.get("shown", {}).get("shares", {name: one["share"] for name, one in passes.items()})
    read = [name for name, share in shares.items() if share > 0]
    if not passes.keys() >= set(read):
        # It was ended by force before its record was written.
        return True
    counts = [passes[name].get("tissue_cells_answered") for name in read]
    if not all(type(count) is int for count in counts):
        return None
    return any(count < record["coverage"]["answered_cells"] for count in counts)


def _part(coverage: dict[str, Any]) -> str:
    """Return what a scan that does not cover its slide is, from its record."""
    if coverage.get("whole") is True:
        return "one whose later passes left out a part of it"
    # Imported here: it brings torch, which figures of detections need not.
    from napari_metastasis.scanning import Coverage

    with suppress(KeyError, TypeError, ValueError):
        if percent := Coverage.from_json(coverage).percent:
            return f"one of {percent} of the tissue"
    return "one that was stopped or is of a region"


def _record(record: dict[str, Any]) -> ScanRecord:
    slide, model = record["slide"], record["model"]
    width, height = _numbers(slide["size"], 2)
    x, y, *_ = (0.0, 0.0) if slide.get("bounds") is None else _numbers(slide["bounds"], 4)
    if not (0 < width <= _MOST_PX and 0 < height <= _MOST_PX and 0 <= x < width and 0 <= y < height):
        raise ValueError("a size or bounds that no slide has")
    threshold, read_from = _shown(record)
    return ScanRecord(
        size=(width, height),
        corner=(x, y),
        model=_name(model["name"]),
        weights_sha256=_name(model["weights_sha256"]),
        threshold=threshold,
        read_from=read_from,
    )


def _shown(record: dict[str, Any]) -> tuple[float | None, str]:
    """Return from which probability the files of a result were last written, and what was read for them.

    Earlier versions wrote them as the scan had them: what was shown stands in its settings then.
    """
    passes = record.get("passes", [])
    scanned = {
        "shares": {one["map"]: one["share"] for one in passes},
        **record.get("settings", {}).get("detection", {}),
    }
    shown = record.get("shown", scanned)
    shares = {name: _numbers([share], 1)[0] for name, share in shown["shares"].items()}
    # Of a pass that was ended by force, a window may show the map, though no record was written of its model.
    models = {
        one["map"]: f"{_name(one['model']['name'])} ({_name(one['model']['weights_sha256'])[:8]})" for one in passes
    }
    later = [
        f"{_name(name)} {share:.0%} by {models.get(name, 'an unknown model')}"
        for name, share in sorted(shares.items())
        # Of one that has no share, nothing was read.
        if share > 0
    ]
    threshold = _numbers([shown["threshold"]], 1)[0] if "threshold" in shown else None
    return threshold, ", ".join(later) or _name(shown.get("map", "probability"))


def _numbers(values: Any, count: int) -> list[float]:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != count:
        raise ValueError(f"no {count} numbers")
    return [float(value) for value in values]


def _name(value: Any) -> str:
    if not isinstance(value, str) or holds_control_characters(value):
        raise ValueError("a name that is no text")
    return value
