"""What a scan's result folder says of the detections in it: which model made them, and of how much of the slide."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metastasis.errors import EvaluationError

__all__ = ["ScanRecord", "read_scan_record"]


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
        record = json.loads(path.read_text(encoding="utf-8"))
        found = _record(record)
        # A scan of the whole slide may have been made in several goes, and regions may have been scanned after it.
        whole = any(scan["finished"] and scan["region"] is None for scan in record["scans"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"expected the record of a scan, got {path} ({error}); scan the slide again") from error
    if not whole:
        raise EvaluationError(
            f"expected a finished scan of the whole slide, got one in {folder} that was stopped or is of a region; "
            "run 'scan' again without --region, which goes on"
        )
    return found


def _record(record: dict[str, Any]) -> ScanRecord:
    width, height = record["slide"]["size"]
    bounds = record["slide"].get("bounds")
    return ScanRecord(
        size=(float(width), float(height)),
        corner=(0.0, 0.0) if bounds is None else (float(bounds[0]), float(bounds[1])),
        model=str(record["model"]["name"]),
        weights_sha256=str(record["model"]["weights_sha256"]),
    )
