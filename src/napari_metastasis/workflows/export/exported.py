"""What was written for another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_metastasis.lesions import Lesion
from napari_metastasis.workflows.report import ReportedResult

__all__ = ["Exported", "exported"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written for another program.

    Attributes
    ----------
    path
        Where it is.
    lesions
        How many lesions are in it; ``None`` where it holds none, but answers.
    without_outline
        Numbers of those that have no outline in the result, and are left out: also of points that people set, which
        GeoJSON alone has a word for.
    told
        What has to be said of it, a line each.
    """

    path: Path
    lesions: int | None
    without_outline: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def exported(path: Path, result: ReportedResult, written: Sequence[Lesion]) -> Exported:
    """Return what is said of a file that holds these of a result's lesions."""
    held = {lesion.number for lesion in written}
    without = tuple(lesion.number for lesion in result.lesions if lesion.number not in held)
    return Exported(path, len(written), without, result.told)
