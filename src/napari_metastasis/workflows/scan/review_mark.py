"""Whether a person has looked through a result: said of what was shown then, and of nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_metastasis.plain_json import read_json
from napari_metastasis.storage import atomic_text, storage_errors

__all__ = ["ReviewMark", "read_review", "write_review"]

_FILE = "review.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewMark:
    """What a person had looked through.

    Attributes
    ----------
    threshold
        Probability from which findings were shown.
    answered_cells
        Cells with tissue that were answered.
    findings
        How many findings there were.
    """

    threshold: float
    answered_cells: int
    findings: int


def read_review(folder: Path) -> ReviewMark | None:
    """Return the mark of a result folder; ``None`` where there is none, or it cannot be read."""
    try:
        told: Any = read_json(folder / _FILE)
        return ReviewMark(
            threshold=float(told["threshold"]),
            answered_cells=int(told["answered_cells"]),
            findings=int(told["findings"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_review(folder: Path, mark: ReviewMark | None) -> None:
    """Write the mark of a result folder; ``None`` takes it away.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    """
    path = folder / _FILE
    if mark is None:
        with storage_errors(path):
            path.unlink(missing_ok=True)
        return
    with atomic_text(path) as file:
        json.dump({**asdict(mark), "at": datetime.now(UTC).isoformat(timespec="seconds")}, file, indent=2)
        file.write("\n")
