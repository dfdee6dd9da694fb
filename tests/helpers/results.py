"""A result folder of a slide with one disc, and changes of its files that other versions would have made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["NO_TISSUE", "PARTIAL", "WHOLE", "change_record", "write_lesions"]

#: What run.json says of a scan of a part, of the whole slide, and of a slide without tissue.
PARTIAL = {
    "tissue_cells": 100,
    "answered_cells": 36,
    "share": 0.36,
    "whole": False,
    "text": "36 % of the tissue scanned: not a result for the slide",
}
WHOLE = {"tissue_cells": 100, "answered_cells": 100, "share": 1.0, "whole": True, "text": "Whole slide scanned"}
NO_TISSUE = {
    "tissue_cells": 0,
    "answered_cells": 0,
    "share": None,
    "whole": False,
    "text": "No tissue found: nothing was scanned",
}


def change_record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change run.json in place."""
    path = folder / "run.json"
    record = json.loads(path.read_text("utf-8"))
    change(record)
    path.write_text(json.dumps(record), "utf-8")


def write_lesions(folder: Path, lesions: list[Mapping[str, Any]], *, corner: tuple[float, float] = (0, 0)) -> None:
    """Write lesions.csv, lesions.geojson and the record's count of square lesions.

    Each has ``id``, ``x``, ``y``, ``mm``, ``size_class``, ``cut``.
    Without ``cut`` in the first one, the files are those of versions that did not record it.
    """
    records_cut = bool(lesions) and "cut" in lesions[0]
    columns = ["id", "x", "y", "probability", "area_mm2", "length_mm", "size_class", "detections"]
    rows, features = [",".join(columns + ["cut_by_edge"] * records_cut)], []
    for one in lesions:
        cells = [one["id"], one["x"], one["y"], 0.9, 0.01, one["mm"], one["size_class"], 1]
        rows.append(",".join(map(str, cells + [int(one.get("cut", 0))] * records_cut)))
        x, y, half = one["x"] - corner[0], one["y"] - corner[1], one.get("half", 30)
        ring = [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {"name": f"Lesion {one['id']}", "classification": {"name": "x"}},
            }
        )
    (folder / "lesions.csv").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "lesions.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    change_record(folder, lambda record: record.update(lesions=len(lesions)))
