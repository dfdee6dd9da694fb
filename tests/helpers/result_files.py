"""What a result's files say, beside what the window shows of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_metastasis._napari.session import SlideSession

__all__ = ["shown_ids", "shown_in", "written_ids"]


def shown_in(folder: Path) -> dict[str, Any]:
    """Return threshold, shares and map that the files in a folder were written with."""
    return json.loads((folder / "run.json").read_text())["shown"]


def written_ids(folder: Path) -> list[tuple[int, str, bool]]:
    """Return number, area and whether it is cut of each lesion in ``lesions.csv``."""
    rows = csv.DictReader((folder / "lesions.csv").read_text().splitlines())
    return [(int(row["id"]), row["area_mm2"], row["cut_by_edge"] == "1") for row in rows]


def shown_ids(session: SlideSession) -> list[tuple[int, str, bool]]:
    """Return the same of each lesion that a session shows."""
    return [(row.id, f"{row.area_mm2:.6f}", row.cut_by_edge) for row in session.found.rows]
