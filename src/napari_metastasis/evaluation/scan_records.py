"""What a scan's result folder says of the detections in it: which model made them, and of how much of the slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import EvaluationError, first_line
from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import holds_control_characters

__all__ = ["ScanRecord", "read_scan_record"]

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
    """

    size: tuple[float, float]
    corner: tuple[float, float]
    model: str
    weights_sha256: str


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
    if not path.exists():
        return None
    try:
        record = read_json(path)
        found = _record(record)
        # A scan of the whole slide may have been made in several goes, and regions may have been scanned after it.
        finished = any(scan["finished"] is True and scan["region"] is None for scan in record["scans"])
        coverage = record.get("coverage", {})
        # Views may cover a slide as well. Earlier versions did not count the tissue that was scanned.
        whole = finished or coverage.get("whole") is True
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = first_line(error)
        raise EvaluationError(f"expected the record of a scan, got {path} ({reason}); scan the slide again") from error
    if not whole:
        raise EvaluationError(
            f"expected a finished scan of the whole slide, got {_part(coverage)} in {folder}; run 'scan' again without "
            "--region, which goes on"
        )
    return found


def _part(coverage: dict[str, Any]) -> str:
    """Return what a scan that does not cover its slide is, from its record."""
    answered, tissue = (coverage.get(name) for name in ("answered_cells", "tissue_cells"))
    if not (type(answered) is type(tissue) is int and 0 <= answered <= tissue > 0):
        return "one that was stopped or is of a region"
    # Imported here: it brings torch, which figures of detections need not.
    from napari_metastasis.scanning import Coverage

    return f"one of {Coverage(tissue, answered).percent} of the tissue"


def _record(record: dict[str, Any]) -> ScanRecord:
    slide, model = record["slide"], record["model"]
    width, height = _numbers(slide["size"], 2)
    x, y, *_ = (0.0, 0.0) if slide.get("bounds") is None else _numbers(slide["bounds"], 4)
    if not (0 < width <= _MOST_PX and 0 < height <= _MOST_PX and 0 <= x < width and 0 <= y < height):
        raise ValueError("a size or bounds that no slide has")
    return ScanRecord((width, height), (x, y), _name(model["name"]), _name(model["weights_sha256"]))


def _numbers(values: Any, count: int) -> list[float]:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != count:
        raise ValueError(f"no {count} numbers")
    return [float(value) for value in values]


def _name(value: Any) -> str:
    if not isinstance(value, str) or holds_control_characters(value):
        raise ValueError("a name that is no text")
    return value
